// An application with the published Node SDK (the language: ../README.md).
const readline = require('node:readline');
const { isDeepStrictEqual } = require('node:util');
const { Client } = require('@harnessio/ff-nodejs-server-sdk');

const apps = new Map();
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const quiet = Object.fromEntries(
  ['trace', 'debug', 'info', 'warn', 'error'].map((level) => [level, () => {}]),
);

// All clients of a process share one cache and one store unless each is given its own.
function ownStorage() {
  const held = new Map();
  const store = {
    set: async (key, value) => { held.set(key, value); return true; },
    get: async (key) => held.get(key),
    del: async (key) => held.delete(key),
    keys: async () => held.keys(),
  };
  return { cache: new Map(), store };
}

async function open({ app, key, url, ca, seconds }) {
  const sdk = new Client(key, { baseUrl: url, eventsUrl: url, tlsTrustedCa: ca, logger: quiet, ...ownStorage() });
  apps.set(app, sdk);
  const ready = sdk.waitForInitialization().then(() => true, () => false);
  return { ready: await Promise.race([ready, pause(seconds * 1000).then(() => false)]) };
}

function evaluate(sdk, { flag, kind, target, default: fallback }) {
  switch (kind) {
    case 'boolean': return sdk.boolVariation(flag, target, fallback);
    case 'int': return sdk.numberVariation(flag, target, fallback);
    case 'json': return sdk.jsonVariation(flag, target, fallback);
    default: return sdk.stringVariation(flag, target, fallback);
  }
}

function values(sdk, ask) {
  const value = (one) => evaluate(sdk, one).catch((fault) => ({ raised: String(fault) }));
  return Promise.all(ask.map(value));
}

async function until(sdk, { ask, values: wanted, seconds }) {
  const began = Date.now();
  const deadline = began + seconds * 1000;
  for (;;) {
    const last = await values(sdk, ask);
    if (isDeepStrictEqual(last, wanted)) return { seen: true };
    if (Date.now() > deadline) return { seen: false, last };
    await pause(Date.now() - began < 1000 ? 10 : 100);
  }
}

async function carryOut(todo) {
  if (todo.do === 'open') return open(todo);
  const sdk = apps.get(todo.app);
  switch (todo.do) {
    case 'values': return { values: await values(sdk, todo.ask) };
    case 'until': return until(sdk, todo);
    case 'close': apps.delete(todo.app); sdk.close(); return {};
    default: throw new Error(`nobody knows how to ${todo.do}`);
  }
}

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', async (line) => {
  const todo = JSON.parse(line);
  const answer = await carryOut(todo).catch((fault) => ({ error: String(fault) }));
  console.log(JSON.stringify({ id: todo.id, ...answer }));
});
lines.on('close', () => process.exit(0));
