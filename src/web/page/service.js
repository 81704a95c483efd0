// The service: its calls, and streams that come back by themselves.

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

const address = (path, parameters = {}) => {
  const url = new URL(path, document.baseURI);
  url.search = new URLSearchParams({ id_format: 'string', ...parameters });
  return url;
};

/** The reply of a GET as an object. Throws `Refused` with what the service says, or whatever `fetch` throws. */
export async function get(path, parameters, signal) {
  const reply = await fetch(address(path, parameters), { signal, cache: 'no-store' });
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Refused(reply.status, body.error ?? `the service answered ${reply.status}`);
  return body;
}

/** All pages of a user's history: `{ history, outages }`. */
export async function wholeHistory(id, parameters = {}, signal) {
  const history = [];
  let page = {}, outages = [];
  do {
    const after = page.next ? { after: page.next } : {};
    page = await get(`v1/users/${id}/history`, { limit: 10_000, ...parameters, ...after }, signal);
    // Each page tells of all outages in the range.
    outages = page.outages;
    for (const session of page.history) history.push(session);
  } while (page.next);
  return { history, outages };
}

/** Why the service takes no heals, or null if it cannot be reached at all. */
export async function reasons() {
  try {
    const reply = await fetch(new URL('readyz', document.baseURI), { cache: 'no-store', signal: AbortSignal.timeout(4_000) });
    return (await reply.json()).reasons ?? [];
  } catch {
    return null;
  }
}

const FIRST_PAUSE = 500, LONGEST_PAUSE = 5_000, SILENCE = 40_000;

/**
 * A stream of events: `takes` has a function for each. `whenLost` is told when it breaks, `whenOpen` when it is there. Hidden tabs
 * close theirs and open it anew when they are looked at. Gives a function that ends it.
 */
export function follow(path, parameters, takes, { whenOpen = () => {}, whenLost = () => {} } = {}) {
  let source, timer, watchdog, pause = FIRST_PAUSE, ended = false;

  function close() {
    clearTimeout(timer);
    clearTimeout(watchdog);
    source?.close();
    source = undefined;
  }

  function lose() {
    close();
    if (ended) return;
    whenLost();
    if (!document.hidden) timer = setTimeout(open, pause * (0.8 + 0.4 * Math.random()));
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }

  // A connection that died without a word is given up: the service is never silent for longer than 15 s, though its comments
  // are not seen here. So the figures, which come every second, have this guard, and other streams live with them.
  function alive() {
    clearTimeout(watchdog);
    if (takes.figures) watchdog = setTimeout(lose, SILENCE);
  }

  function open() {
    close();
    source = new EventSource(address(path, parameters));
    alive();
    source.onopen = () => {
      pause = FIRST_PAUSE;
      whenOpen();
    };
    source.onerror = lose;
    for (const [name, take] of Object.entries({ draining: lose, lagged: lose, ...takes })) {
      source.addEventListener(name, event => {
        alive();
        take(JSON.parse(event.data));
      });
    }
  }

  // Another stream has found the service: no need to wait for this one's turn.
  const reachable = () => source ?? (document.hidden || open());
  addEventListener('reachable', reachable);
  const look = () => (document.hidden ? close() : source ?? open());
  document.addEventListener('visibilitychange', look);
  look();
  return () => {
    ended = true;
    removeEventListener('reachable', reachable);
    document.removeEventListener('visibilitychange', look);
    close();
  };
}
