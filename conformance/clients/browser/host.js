// Runs a browser SDK in headless Chromium (the language: ../README.md), with one page an application
// whose origin is not the relay's. Arguments: the SDK (javascript or react), the folder of bundles,
// Chromium's path, a folder for its profile.
const http = require('node:http');
const fs = require('node:fs');
const path = require('node:path');
const readline = require('node:readline');
const puppeteer = require('puppeteer-core');

const [sdk, bundles, chromium, profile] = process.argv.slice(2);
const pages = new Map();
const bundle = fs.readFileSync(path.join(bundles, `${sdk}.js`));

const site = http.createServer((request, answer) => {
  if (request.url === '/app.js') {
    answer.setHeader('Content-Type', 'text/javascript; charset=utf-8');
    return answer.end(bundle);
  }
  answer.setHeader('Content-Type', 'text/html; charset=utf-8');
  return answer.end('<!doctype html><meta charset="utf-8"><script src="/app.js"></script><body></body>');
});

async function main() {
  await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
  const browser = await puppeteer.launch({
    executablePath: chromium,
    userDataDir: profile,
    protocolTimeout: 0,
    // Over a pipe, Chromium ends with this process, however that ends.
    pipe: true,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
      // Pages behind other pages are throttled otherwise, which no visitor's page is.
      '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows',
      '--disable-renderer-backgrounding',
    ],
  });
  const lines = readline.createInterface({ input: process.stdin });
  lines.on('line', async (line) => {
    const todo = JSON.parse(line);
    const answer = await carryOut(browser, todo).catch((fault) => ({ error: String(fault) }));
    console.log(JSON.stringify({ id: todo.id, ...answer }));
  });
  lines.on('close', async () => {
    await browser.close();
    process.exit(0);
  });
}

async function newPage(browser) {
  // A context has connections of its own: six to a host, of which a stream takes one.
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  await page.goto(`http://localhost:${site.address().port}/`);
  return page;
}

async function carryOut(browser, todo) {
  const name = todo.page || todo.app;
  if (!pages.has(name)) pages.set(name, newPage(browser));
  const page = await pages.get(name);
  const answer = await page.evaluate((command) => window.carryOut(command), todo);
  if (todo.do === 'close' && !todo.page) {
    pages.delete(name);
    await page.browserContext().close();
  }
  return answer;
}

main();
