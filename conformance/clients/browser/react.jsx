// A page with the published React SDK: what is asked is rendered with its hook, and read from the page.
import React, { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { FFContextProvider, useFeatureFlag } from '@harnessio/ff-react-client-sdk';
import { carryOutWith } from './carry-out.js';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

function Flag({ ask }) {
  return <li>{JSON.stringify(useFeatureFlag(ask.flag, ask.default))}</li>;
}

function Application({ hand }) {
  const [shown, show] = useState({ round: 0, questions: [] });
  useEffect(() => { hand.show = show; hand.initialised(true); }, []);
  useEffect(() => { if (hand.rendered) hand.rendered(); }, [shown]);
  return <ul>{shown.questions.map((ask, at) => <Flag key={at} ask={ask} />)}</ul>;
}

function start({ key, url, target, stream = true }) {
  const place = document.body.appendChild(document.createElement('div'));
  const root = createRoot(place);
  const hand = {};
  const options = { baseUrl: url, eventUrl: url, streamEnabled: stream, logger: quiet };
  const ready = new Promise((resolve) => { hand.initialised = resolve; });
  root.render(
    <FFContextProvider apiKey={key} target={target} options={options} fallback={<p>not yet</p>}>
      <Application hand={hand} />
    </FFContextProvider>,
  );
  let round = 0;
  let asked = '';
  return {
    ready,
    read: async (questions) => {
      if (!hand.show) return questions.map((ask) => ask.default);
      // The same question again is left to the SDK: it has to render anew by itself when a flag changes.
      if (JSON.stringify(questions) !== asked || !questions.length) {
        asked = JSON.stringify(questions);
        await new Promise((resolve) => {
          hand.rendered = resolve;
          hand.show({ round: ++round, questions });
        });
      }
      return [...place.querySelectorAll('li')].map((item) => (item.textContent ? JSON.parse(item.textContent) : null));
    },
    close: async () => root.unmount(),
  };
}

window.carryOut = carryOutWith(start);
