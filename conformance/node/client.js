// An application with the published Node SDK: says what it sees as JSON lines.
const { Client } = require('@harnessio/ff-nodejs-server-sdk');

const say = (fields) => console.log(JSON.stringify(fields));
const { RELAY, SDK_KEY, PATCHED } = process.env;
const target = { identifier: 'alice', name: 'Alice', attributes: { email: 'alice@harness.io', plan: 'gold' } };

async function main() {
  const client = new Client(SDK_KEY, { baseUrl: RELAY, eventsUrl: RELAY, enableStream: true });
  await client.waitForInitialization();
  say({
    event: 'ready',
    values: {
      'bool-flag-0': await client.boolVariation('bool-flag-0', target, false),
      'string-flag-1': await client.stringVariation('string-flag-1', target, 'default'),
      'number-flag-2': await client.numberVariation('number-flag-2', target, -1),
      'json-flag-3': await client.jsonVariation('json-flag-3', target, {}),
    },
  });
  const before = await client.boolVariation(PATCHED, target, false);
  const deadline = Date.now() + 30000;
  while ((await client.boolVariation(PATCHED, target, before)) === before) {
    if (Date.now() > deadline) {
      say({ event: 'missed' });
      process.exit(1);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  say({ event: 'changed', value: await client.boolVariation(PATCHED, target, before) });
  client.close();
  process.exit(0);
}

main().catch((error) => {
  say({ event: 'failed', error: String(error) });
  process.exit(1);
});
