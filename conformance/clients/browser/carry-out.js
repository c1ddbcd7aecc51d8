// The commands that a page carries out for any browser SDK; the SDK's own part is `start`, which gives
// `{ready, read, close}`: a promise, a function from questions to values, and the end.
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

export function carryOutWith(start) {
  const apps = new Map();

  async function until(app, { ask, values, seconds }) {
    const began = Date.now();
    const deadline = began + seconds * 1000;
    for (;;) {
      const last = await app.read(ask);
      if (same(last, values)) return { seen: true };
      if (Date.now() > deadline) return { seen: false, last };
      await pause(Date.now() - began < 1000 ? 10 : 100);
    }
  }

  return async (todo) => {
    if (todo.do === 'open') {
      const app = start(todo);
      apps.set(todo.app, app);
      const late = pause(todo.seconds * 1000).then(() => false);
      return { ready: await Promise.race([app.ready, late]) };
    }
    const app = apps.get(todo.app);
    switch (todo.do) {
      case 'values': return { values: await app.read(todo.ask) };
      case 'until': return until(app, todo);
      case 'close': apps.delete(todo.app); await app.close(); return {};
      default: throw new Error(`nobody knows how to ${todo.do}`);
    }
  };
}
