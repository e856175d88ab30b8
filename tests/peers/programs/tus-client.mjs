// tus-client.mjs ENDPOINT: uploads 300,000 bytes in three pieces, stops after the first, and goes on where the server says.
// Tells the upload's address, or what went wrong.
import * as tus from 'tus-js-client';

const endpoint = process.argv[2];

const upload = (uploadUrl, stopsEarly) =>
  new Promise((resolve, reject) => {
    const one = new tus.Upload(Buffer.alloc(300_000, 'x'), {
      endpoint,
      uploadUrl,
      chunkSize: 100_000,
      retryDelays: null,
      onChunkComplete: () => { if (stopsEarly) one.abort().then(() => resolve(one.url)); },
      onSuccess: () => resolve(one.url),
      onError: reject,
    });
    one.start();
  });

try {
  const url = await upload(undefined, true);
  console.log(JSON.stringify({ url: await upload(url, false) }));
} catch (error) {
  console.log(JSON.stringify({ error: error.message, status: error.originalResponse?.getStatus() }));
}
