// An extension in Debian's Chromium: an order a line on standard input, an answer a line on standard output, both JSON.
// Environment: CHROMIUM (its path), HOME (for the profile). Tells the extension's origin first.
//
//   {"url": "...", "method": "POST"}   the extension's worker sends a request; answers with what it sees
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const folder = fileURLToPath(new URL('extension', import.meta.url));
const context = await chromium.launchPersistentContext(`${process.env.HOME}/profile`, {
  executablePath: process.env.CHROMIUM,
  // The new headless mode knows extensions.
  headless: false,
  ignoreDefaultArgs: ['--disable-extensions'],
  args: [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run',
    '--disable-features=DisableLoadExtensionCommandLineSwitch,LocalNetworkAccessChecks',
    `--disable-extensions-except=${folder}`, `--load-extension=${folder}`,
  ],
});
const worker = context.serviceWorkers()[0] ?? await context.waitForEvent('serviceworker');
console.log(JSON.stringify({ origin: worker.url().split('/').slice(0, 3).join('/') }));
for await (const line of createInterface({ input: process.stdin })) {
  const seen = await worker.evaluate(async ({ url, method }) => {
    try {
      const response = await fetch(url, { method, body: method === 'POST' ? '{}' : undefined });
      return { status: response.status, text: await response.text() };
    } catch (error) {
      return { failed: String(error) };
    }
  }, JSON.parse(line));
  console.log(JSON.stringify(seen));
}
await context.close();
