// Web pages in Debian's Chromium, one allowed and others not, and what they try at the proxy. Environment: PROXY (its
// port), ALLOWED and OTHER (ports that the pages are served at, here). Tells how each attempt ended, a JSON object a line.
import http from 'node:http';
import { chromium } from 'playwright-core';

const { PROXY, ALLOWED, OTHER } = process.env;
const tell = (attempt, result) => console.log(JSON.stringify({ attempt, ...result }));
const page = '<!doctype html><title>a page</title><body></body>';
for (const port of [ALLOWED, OTHER]) {
  await new Promise((resolve) => http.createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'text/html' }).end(page);
  }).listen(Number(port), '127.0.0.1', resolve));
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run',
    '--host-resolver-rules=MAP *.test 127.0.0.1',
    // What newer browsers do against this themselves is not what is tried here.
    '--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests',
  ],
});
const api = `http://localhost:${PROXY}`;

// What a page can do, each in the page itself: it returns what the page gets to know.
const attempts = {
  get: async (api, from) => {
    const answer = await fetch(`${api}/api/${from}-get`);
    return { status: answer.status, body: await answer.text() };
  },
  post_json: async (api, from) => {
    const answer = await fetch(`${api}/api/${from}-post-json`, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":1}',
    });
    return { status: answer.status, body: await answer.text() };
  },
  custom_header: async (api, from) => {
    const answer = await fetch(`${api}/api/${from}-custom-header`, { method: 'DELETE', headers: { 'x-custom': '1' } });
    return { status: answer.status, shown: answer.headers.get('x-shown') };
  },
  error: async (api, from) => {
    const answer = await fetch(`${api}/nowhere/${from}-error`);
    return { status: answer.status, error: answer.headers.get('cupbearer-error') };
  },
  simple_post: async (api, from) => {
    const answer = await fetch(`${api}/api/${from}-simple-post`, { method: 'POST', body: 'text' });
    return { status: answer.status };
  },
  no_cors: async (api, from) => {
    const answer = await fetch(`${api}/api/${from}-no-cors`, { mode: 'no-cors', method: 'POST', body: 'text' });
    return { status: answer.status, type: answer.type };
  },
  beacon: async (api, from) => ({ queued: navigator.sendBeacon(`${api}/api/${from}-beacon`, 'text') }),
  image: (api, from) => new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve({ loaded: true });
    image.onerror = () => resolve({ loaded: false });
    image.src = `${api}/api/${from}-image`;
  }),
  script: (api, from) => new Promise((resolve) => {
    const script = document.createElement('script');
    script.onload = () => resolve({ loaded: true });
    script.onerror = () => resolve({ loaded: false });
    script.src = `${api}/api/${from}-script`;
    document.body.append(script);
  }),
  form: (api, from) => new Promise((resolve) => {
    const [frame, form] = [document.createElement('iframe'), document.createElement('form')];
    frame.name = 'target';
    document.body.append(frame, form);
    Object.assign(form, { method: 'POST', action: `${api}/api/${from}-form`, target: 'target' });
    frame.onload = () => resolve({ submitted: true });
    form.submit();
  }),
  frame: (api, from) => new Promise((resolve) => {
    const frame = document.createElement('iframe');
    frame.onload = () => resolve({ loaded: true });
    frame.src = `${api}/api/${from}-frame`;
    document.body.append(frame);
  }),
  events: (api, from) => new Promise((resolve) => {
    const [source, got] = [new EventSource(`${api}/events/${from}`), []];
    source.onerror = () => { source.close(); resolve({ events: got }); };
    source.onmessage = ({ data }) => {
      got.push(data);
      if (got.length === 3) { source.close(); resolve({ events: got }); }
    };
  }),
  websocket: (api, from) => new Promise((resolve) => {
    const socket = new WebSocket(`${api.replace('http', 'ws')}/socket/${from}`);
    socket.onopen = () => socket.send('größer ☺');
    socket.onerror = () => resolve({ open: false });
    socket.onmessage = ({ data }) => {
      socket.onclose = ({ code, wasClean }) => resolve({ open: true, echo: data, code, wasClean });
      socket.close(1000, 'done');
    };
  }),
};

async function attempt(tab, name, from) {
  const known = await tab.evaluate(
    ([code, api, from]) => Promise.race([
      // eslint-disable-next-line no-eval
      eval(code)(api, from).catch((error) => ({ failed: error.name })),
      new Promise((resolve) => setTimeout(() => resolve({ failed: 'nothing happened' }), 15000)),
    ]),
    [`(${attempts[name]})`, api, from],
  );
  tell(`${from} ${name}`, known);
}

const pages = {
  allowed: `http://localhost:${ALLOWED}/`,
  // The same site, in a browser's eyes: ports do not count.
  other: `http://localhost:${OTHER}/`,
  address: `http://127.0.0.1:${OTHER}/`,
  evil: `http://evil.test:${OTHER}/`,
};
for (const [from, url] of Object.entries(pages)) {
  const tab = await browser.newPage();
  await tab.goto(url);
  for (const name of Object.keys(attempts)) await attempt(tab, name, from);
  await tab.close();
}

// DNS rebinding: the attacker's page has the proxy's port, and its name now means this machine.
const tab = await browser.newPage();
const rebound = `http://rebound.test:${PROXY}`;
const seen = await tab.goto(`${rebound}/api/rebound-navigation`);
tell('rebound navigation', { status: seen.status() });
await tab.route(`${rebound}/page`, (route) => route.fulfill({ contentType: 'text/html', body: page }));
await tab.goto(`${rebound}/page`);
for (const [name, options] of Object.entries({ get: {}, post: { method: 'POST', body: 'text' } })) {
  const known = await tab.evaluate(async ([url, options]) => {
    try {
      return { status: (await fetch(url, options)).status };
    } catch (error) {
      return { failed: error.message };
    }
  }, [`/api/rebound-${name}`, options]);
  tell(`rebound ${name}`, known);
}
const socket = await tab.evaluate((url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onopen = () => resolve(true);
  socket.onerror = () => resolve(false);
}), `ws://rebound.test:${PROXY}/socket/rebound`);
tell('rebound websocket', { open: socket });
await browser.close();
process.exit(0);
