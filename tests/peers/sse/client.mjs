// client.mjs PROXY API: an EventSource that takes twenty events by PROXY, acknowledges each at API, and hangs up. Tells
// what came, as a JSON object.
import { EventSource } from 'eventsource';

const [proxy, api] = process.argv.slice(2);
const [ids, late] = [[], []];
const source = new EventSource(proxy);
source.onerror = (error) => { if (error.code) { console.error(error); process.exit(1); } };
source.onmessage = async ({ lastEventId, data }) => {
  late.push(Date.now() - Number(data));
  ids.push(Number(lastEventId));
  await fetch(`${api}/_ack?id=${lastEventId}`, { method: 'POST' });
  if (ids.length < 20) return;
  source.close();
  late.sort((one, other) => one - other);
  console.log(JSON.stringify({ ids, typical: late[10], worst: late[19] }));
  // The API must hear of the end by the connection alone, and not because this process has gone.
  setTimeout(() => process.exit(0), Number(process.env.LINGER ?? 0));
};
