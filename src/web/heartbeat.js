// Keeps a user online while this page is there:
//   import { heartbeat } from 'https://example.com/heartbeat.js';
//   const leave = heartbeat({ id: '12345' });
// `ttl` is the service's, in seconds. `onchange` is told whether heals arrive.
export function heartbeat({ id, url = new URL('.', import.meta.url), ttl = 7, interval = ttl / 3, onchange = () => {} }) {
  const at = path => new URL(path, url);
  const isSeen = () => document.visibilityState === 'visible';
  const off = new AbortController();
  const on = (target, name, take) => target.addEventListener(name, take, { signal: off.signal });
  let timer, call, start, isHealing, hasLeft, failures = 0;

  // From one heal to the next. After the second failure it backs off, but never beyond a ttl while the page is seen.
  function next() {
    const longest = isSeen() ? ttl : 60;
    const pause = Math.min(interval * 2 ** Math.max(failures - 1, 0), longest) * (1 - Math.random() / 5);
    clearTimeout(timer);
    timer = setTimeout(heal, start + 1000 * pause - performance.now());
  }

  async function heal() {
    start = performance.now();
    call?.abort();
    const mine = (call = new AbortController());
    next();
    const reply = await fetch(at('heal/' + id), { method: 'POST', signal: mine.signal }).catch(() => {});
    if (hasLeft) return;
    failures = reply?.ok ? 0 : failures + 1;
    if (mine === call) next();
    if (isHealing !== !failures) onchange((isHealing = !failures));
  }

  function leave() {
    hasLeft = true;
    clearTimeout(timer);
    call.abort();
    const to = at('v1/leave');
    if ('keepalive' in Request.prototype) fetch(to, { method: 'POST', body: id, keepalive: true }).catch(() => {});
    else navigator.sendBeacon(to, id);
  }

  on(window, 'pagehide', leave);
  on(window, 'pageshow', () => hasLeft && ((hasLeft = false), heal()));
  on(document, 'visibilitychange', () => isSeen() && !hasLeft && next());
  heal();
  return () => {
    off.abort();
    leave();
  };
}
