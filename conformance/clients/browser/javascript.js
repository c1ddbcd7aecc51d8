// A page with the published browser JavaScript SDK.
import { Event, initialize } from '@harnessio/ff-javascript-client-sdk';
import { carryOutWith } from './carry-out.js';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

function start({ key, url, target, stream = true }) {
  const sdk = initialize(key, target, {
    baseUrl: url, eventUrl: url, streamEnabled: stream, logger: quiet,
  });
  const ready = new Promise((resolve) => {
    sdk.on(Event.READY, () => resolve(true));
  });
  return {
    ready,
    read: async (questions) => questions.map((ask) => sdk.variation(ask.flag, ask.default)),
    close: async () => sdk.close(),
  };
}

window.carryOut = carryOutWith(start);
