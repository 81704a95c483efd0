// The live page: figures as they come, a curve, and the user that is looked at.

import { Curve, spark } from './curve.js';
import { Moment } from './moment.js';
import { follow, get, reasons } from './service.js';
import { User } from './user.js';
import { $, ago, bytes, clock, count, duration, hear, latency, now, rate, say } from './words.js';

/** Seconds in the small pictures, and seconds that are one point there: whole gateways heal at once, and then not for a while. */
const SPARK = 300, FEW = 5;

const curve = new Curve(second => {
  moment.show(second).then(() => $('moment-title').scrollIntoView({ block: 'nearest' }));
});
const moment = new Moment({
  choose: second => {
    curve.chosen = second;
    curve.plot.redraw(false);
    moment.show(second);
  },
  look: id => {
    user.look(id);
    $('user-title').scrollIntoView({ block: 'start' });
    $('id').focus({ preventScroll: true });
  },
  close: () => curve.forget(),
});
const user = new User(({ id, days }) => {
  const address = `#user=${id}${days === 1 ? '' : `&days=${days}`}`;
  if (location.hash !== address) history.replaceState(null, '', address);
});

let latest = null;

function show(event) {
  latest = event;
  hear(event.at);
  curve.add(event);
  say('online', count(event.online));
  say('users', count(event.users));
  document.title = `${count(event.online)} online · Heartbeat`;
  showCurve();
  showTiles(event);
  state(event.ready ? 'live' : 'unready', event.ready ? 'Live' : sentence(event.reasons));
}

function showCurve() {
  const shown = curve.shown();
  const all = shown.map(point => point.online);
  if (!all.length) return;
  say('highest', count(Math.max(...all)));
  say('lowest', count(Math.min(...all)));
  const change = all.at(-1) - all[0], span = shown.at(-1).at - shown[0].at;
  const says = change === 0 ? 'as many as' : `${count(Math.abs(change))} ${change > 0 ? 'more' : 'fewer'} than`;
  say('change', span < 10 ? 'counting begins' : `${says} ${ago(span)}`);
}

/** `values` by fives, the last ones whole. */
function byFew(values, take) {
  const groups = [];
  for (let end = values.length; end >= FEW; end -= FEW) groups.unshift(take(values.slice(end - FEW, end)));
  return groups;
}
const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
const worst = values => (values.some(value => value !== null) ? Math.max(...values) : null);

function showTiles({ journal, snapshot, ready, reasons: why }) {
  const recent = curve.points.slice(-SPARK);
  const heals = recent.map(point => point.heals_per_second), latencies = recent.map(point => point.p99_seconds);
  say('heals', rate(mean(heals.slice(-FEW))));
  spark($('heals-spark'), byFew(heals, mean));
  spark($('p99-spark'), byFew(latencies, worst));
  const now99 = worst(latencies.slice(-10));
  const [p99, unit] = now99 === null ? ['–', ''] : latency(now99);
  say('p99', p99);
  say('p99-unit', unit);
  say('p99-says', now99 !== null ? 'worst of ten seconds' : 'no heal was timed just now');
  say('journal', !journal ? 'None' : journal.accepting ? 'Accepting' : 'Refusing');
  $('journal').dataset.is = !journal || journal.accepting ? 'well' : 'ill';
  say('journal-says', !journal ? 'nothing is kept on disk' : journal.refusal ?? synced(journal));
  say('snapshot', snapshot ? ago(now() - snapshot.at) : journal ? 'Not yet' : 'None');
  say('snapshot-says', snapshot ? `number ${snapshot.number}, ${bytes(snapshot.bytes)}` : journal ? 'none since the start' : 'nothing is kept on disk');
  say('ready', ready ? 'Ready' : 'Not ready');
  $('ready').dataset.is = ready ? 'well' : 'ill';
  say('ready-says', ready ? 'heals are taken' : why.join('; '));
}

const synced = ({ durability, unsynced_seconds }) =>
  `${durability}, ${unsynced_seconds === null ? 'synced by the system' : `synced ${unsynced_seconds < 1.5 ? 'just now' : `${duration(unsynced_seconds)} ago`}`}`;

const sentence = all => {
  const text = all.join('; ');
  return text ? text[0].toUpperCase() + text.slice(1) : 'Not ready';
};

function state(is, text) {
  document.body.dataset.is = $('state').dataset.is = is;
  say('state-text', text);
}

// While the service is away somebody asks it why, if it says so.
let isFollowing = false, asking;
async function explain() {
  clearTimeout(asking);
  const why = await reasons();
  if (isFollowing || document.hidden) return;
  const since = latest ? `, figures of ${clock(latest.at)}` : '';
  if (why === null) {
    state('lost', `Cannot reach the service${since}; trying again`);
    document.title = 'Away · Heartbeat';
    for (const tile of ['journal', 'ready']) {
      say(tile, 'Unknown');
      $(tile).dataset.is = 'unknown';
      say(`${tile}-says`, 'the service cannot be reached');
    }
  }
  else state('unready', why.length ? sentence(why) : 'Connecting');
  asking = setTimeout(explain, 1_000);
}

async function begin() {
  isFollowing = true;
  dispatchEvent(new Event('reachable'));
  try {
    const [{ points }, status] = await Promise.all([get('v1/figures'), get('v1/status')]);
    curve.set(points);
    showCurve();
    if (points.length) hear(points.at(-1).at);
    say('build', `${status.version}, up ${duration(status.uptime_seconds).split(' ').slice(0, 4).join(' ')}`);
  } catch {
    // The stream says what there is to say.
  }
}

follow('v1/figures/watch', {}, { figures: show }, {
  whenOpen: begin,
  whenLost: () => {
    isFollowing = false;
    explain();
  },
});

for (const button of document.querySelectorAll('[data-span]')) {
  button.addEventListener('click', () => {
    for (const other of document.querySelectorAll('[data-span]')) other.setAttribute('aria-pressed', String(other === button));
    curve.look(Number(button.dataset.span));
    showCurve();
  });
}

function open() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if ([7, 30].includes(Number(asked.get('days')))) user.range(Number(asked.get('days')));
  if (asked.has('user')) user.ask(asked.get('user'));
}
addEventListener('hashchange', open);
open();
say('zone', Intl.DateTimeFormat().resolvedOptions().timeZone);
