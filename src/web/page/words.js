// Numbers and times as people read them, and short ways to the elements of the page.

export const $ = id => document.getElementById(id);

/** Sets a text only if it is another one: screen readers and the clipboard are not disturbed. */
export function say(id, text) {
  const element = typeof id === 'string' ? $(id) : id;
  if (element.textContent !== text) element.textContent = text;
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

export const count = n => whole.format(n);
export const rate = n => (n < 100 ? tenths : whole).format(n);
export const short = n => (Math.abs(n) < 10_000 ? whole : compact).format(n);
export const percent = share => `${share > 0 && share < 0.001 ? '<0.1' : (100 * share).toFixed(share >= 0.9995 ? 0 : 1)} %`;

export function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (n >= 1_024 && unit < 4) [n, unit] = [n / 1_024, unit + 1];
  return `${unit && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

/** `[text, unit]` of a latency in seconds. */
export function latency(seconds) {
  if (seconds < 0.001) return [String(Math.round(seconds * 1e6)), 'µs'];
  if (seconds < 1) return [(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0), 'ms'];
  return [seconds.toFixed(1), 's'];
}

/** `3 min 7 s`: exact below a day, then days and hours. */
export function duration(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  const parts = [['d', 86_400], ['h', 3_600], ['min', 60], ['s', 1]];
  const said = [];
  for (const [unit, size] of parts) {
    const n = Math.floor(seconds / size);
    seconds -= n * size;
    if (n) said.push(`${n} ${unit}`);
  }
  const most = said[0]?.endsWith('d') ? 2 : 3;
  return said.slice(0, most).join(' ') || '0 s';
}

/** `just now`, `3 min ago`. */
export const ago = seconds => {
  if (seconds < 2) return 'just now';
  const unit = [86_400, 3_600, 60].find(size => seconds > 0.97 * size) ?? 1;
  return `${duration(unit * Math.round(seconds / unit))} ago`;
};

const format = options => {
  const formatter = new Intl.DateTimeFormat('en-GB', options);
  return second => formatter.format(second * 1_000);
};
export const clock = format({ hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
export const minute = format({ hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
/** Of a row of days that ends today. */
export const weekday = format({ weekday: 'short', day: 'numeric', month: 'short' });
const year = format({ year: 'numeric' });
const withYear = name => second => (year(second) === year(now()) ? name(second) : `${name(second)} ${year(second)}`);
/** With the year unless it is this one. */
export const day = withYear(weekday);

/** With the day unless it is today. */
export const moment = (second, now) => (day(second) === day(now) ? clock(second) : `${day(second)}, ${clock(second)}`);
export const dayAndClock = second => `${day(second)}, ${clock(second)}`;
const date = withYear(format({ day: 'numeric', month: 'short' }));
export const dateAndClock = second => `${date(second)}, ${clock(second)}`;

/** What an `<input type="datetime-local">` holds. */
export function toInput(second) {
  const date = new Date(second * 1_000);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
export const fromInput = text => Math.floor(new Date(text) / 1_000);

// The service's clock: a browser's may be off by hours. Measured in seconds, and left alone while they agree.
let skew = 0;
export function hear(second) {
  const off = second - Date.now() / 1_000;
  skew = Math.abs(off) > 3 ? off : 0;
}
export const now = () => Math.floor(Date.now() / 1_000 + skew);
