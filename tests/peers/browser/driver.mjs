// Debian's Chromium at the command of a test: a JSON order a line on standard input, a JSON answer a line on standard
// output, in their order. Environment: CHROMIUM (its path), RULES (host resolver rules, optional), WIDTH (of pages, 1280).
//
//   {"do": "open", "page": "a", "url": "..."}       a new page, which loads the address; with "in": "b" in b's context
//                                                   a tab that the page opens is called "a-tab"
//   {"do": "goto", "page": "a", "url": "..."}       the page loads another one
//   {"do": "reload", "page": "a"}                   the page is loaded again, as a person does it
//   {"do": "fill", "page": "a", "at": "selector", "text": "..."}
//   {"do": "click", "page": "a", "at": "selector"}
//   {"do": "wait", "page": "a", "at": "selector"}   until it is visible
//   {"do": "until", "page": "a", "script": "..."}   until the expression is truthy; answers with it
//   {"do": "run", "page": "a", "script": "..."}     evaluates an expression, a promise's value included
//   {"do": "press", "page": "a", "text": "Tab"}
//   {"do": "settle", "page": "a", "url": "prefix"}  until the page's address begins so; answers with it
//   {"do": "look", "page": "a"}                     address, text, and what went wrong in it so far
//   {"do": "shot", "page": "a", "file": "...", "width": 390, "height": 800, "dark": true}
//   {"do": "cookies", "page": "a"}                  the browser's cookies
//   {"do": "forget", "page": "a"}                   the browser's cookies
//   {"do": "close", "page": "a"}
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const { CHROMIUM, RULES, WIDTH } = process.env;
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run', ...(RULES ? [`--host-resolver-rules=${RULES}`] : []),
    // What newer browsers do against this themselves is not what is tried here.
    '--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests',
  ],
});
const pages = new Map(); // name -> { page, wrong }

async function open({ page: name, in: beside, url }) {
  const viewport = { width: Number(WIDTH ?? 1280), height: 900 };
  const context = beside ? pages.get(beside).page.context() : await browser.newContext({ viewport });
  context.setDefaultTimeout(15000);
  const page = await context.newPage();
  const wrong = [];
  page.on('console', (line) => { if (['error', 'warning'].includes(line.type())) wrong.push(`${line.type()}: ${line.text()} (${line.location().url})`); });
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('requestfailed', (request) => { pages.get(name).lost = request.url(); });
  pages.set(name, { page, wrong });
  // What the page opens is called after it.
  page.on('popup', (tab) => pages.set(`${name}-tab`, { page: tab, wrong: [] }));
  await page.goto(url, { waitUntil: 'load' });
  return { url: page.url() };
}

const acts = {
  goto: async (page, { url }) => { await page.goto(url, { waitUntil: 'load' }); return { url: page.url() }; },
  reload: async (page) => { await page.reload({ waitUntil: 'load' }); },
  fill: (page, { at, text }) => page.fill(at, text),
  click: (page, { at }) => page.click(at),
  wait: (page, { at }) => page.waitForSelector(at),
  // By the debugger: what a page's policy keeps from being evaluated in it is not.
  until: async (page, { script }) => {
    for (let tries = 0; tries < 600; tries += 1) {
      const value = await page.evaluate(script).catch(() => undefined); // between two pages there is none
      if (value) return { value };
      await sleep(50);
    }
    throw new Error(`still not so: ${script}`);
  },
  run: async (page, { script }) => ({ value: await page.evaluate(script) }),
  press: (page, { text }) => page.keyboard.press(text),
  settle: async (page, { url }) => {
    await page.waitForURL((now) => String(now).startsWith(url));
    return { url: page.url() };
  },
  look: async (page, { page: name }, wrong) => (
    { url: page.url(), text: await page.innerText('body'), wrong, lost: pages.get(name).lost }),
  shot: async (page, { file, width, height, dark }) => {
    if (width) await page.setViewportSize({ width, height: height ?? 900 });
    await page.emulateMedia({ colorScheme: dark ? 'dark' : 'light' });
    await page.screenshot({ path: file });
  },
  cookies: async (page) => ({ cookies: await page.context().cookies() }),
  forget: (page) => page.context().clearCookies(),
  close: (page) => page.close(),
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  let answer;
  try {
    for (let tries = 0; order.do !== 'open' && !pages.has(order.page) && tries < 200; tries += 1) await sleep(50);
    const { page, wrong } = pages.get(order.page) ?? {};
    answer = order.do === 'open' ? await open(order) : await acts[order.do](page, order, wrong);
    if (!answer || answer._guid || answer.asElement) answer = {};
  } catch (error) {
    const page = pages.get(order.page)?.page;
    answer = { failed: String(error), url: page?.url(), text: await page?.innerText('body').catch(() => '') };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
