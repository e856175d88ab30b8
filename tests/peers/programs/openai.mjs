// openai.mjs BASE: a question to a model by OpenAI's SDK. Tells what the error says.
import OpenAI from 'openai';

const client = new OpenAI({ apiKey: 'unused', baseURL: process.argv[2], maxRetries: 0 });
try {
  await client.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: 'Hello' }] });
  console.log(JSON.stringify({}));
} catch ({ status, code, message }) {
  console.log(JSON.stringify({ status, code, message }));
}
