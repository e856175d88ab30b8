// tus-server.mjs FOLDER HOST:PORT: a server for resumable uploads, which keeps them in FOLDER. It writes the address of each
// upload from the Host that it is sent.
import { FileStore } from '@tus/file-store';
import { Server } from '@tus/server';

const [directory, address] = process.argv.slice(2);
const [host, port] = address.split(':');
new Server({ path: '/uploads', datastore: new FileStore({ directory }) }).listen({ host, port: Number(port) });
