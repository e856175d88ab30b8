// Vite's development server (npm vite) for a copy of `app`. Environment: ROOT (that copy), PORT, API (a proxy to lead /api
// and /socket to; left out: none), CHANGE_ORIGIN ("true": Host is the proxy's). Tells as JSON that it is ready.
import { createServer } from 'vite';

const { ROOT, PORT, API, CHANGE_ORIGIN } = process.env;
const entry = { target: API, ws: true, changeOrigin: CHANGE_ORIGIN === 'true' };
const server = await createServer({
  root: ROOT,
  configFile: false,
  cacheDir: `${ROOT}/.vite`,
  optimizeDeps: { noDiscovery: true },
  server: {
    host: '127.0.0.1', port: Number(PORT), strictPort: true, proxy: API ? { '/api': entry, '/socket': entry } : undefined,
  },
});
await server.listen();
console.log(JSON.stringify({ event: 'ready' }));
