// Node's own fetch, to whom every name is this machine. Argument: the address. Tells the status.
import dns from 'node:dns';

dns.lookup = (name, options, done) => done(null, options.all ? [{ address: '127.0.0.1', family: 4 }] : '127.0.0.1', 4);
const response = await fetch(process.argv[2]);
console.log(JSON.stringify({ status: response.status }));
