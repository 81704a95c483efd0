// A user's whole timeline as a file, made here from all pages of the history.

import { wholeHistory } from './service.js';

const iso = second => new Date(second * 1_000).toISOString().replace('.000Z', 'Z');

const FORMS = {
  csv: {
    type: 'text/csv',
    write: (id, { history }) => {
      const lines = history.map(({ online_at, offline_at, end }) =>
        [id, online_at, offline_at, offline_at - online_at, end, iso(online_at), iso(offline_at)].join(','));
      return `${['id,online_at,offline_at,seconds,end,online_at_utc,offline_at_utc', ...lines].join('\r\n')}\r\n`;
    },
  },
  json: {
    type: 'application/json',
    write: (id, { history, outages }) => `${JSON.stringify({ id, history, outages }, null, 1)}\n`,
  },
};

/** Saves it; gives the number of sessions. */
export async function download(id, form) {
  const whole = await wholeHistory(id);
  const { type, write } = FORMS[form];
  const url = URL.createObjectURL(new Blob([write(id, whole)], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `heartbeat-${id}.${form}`;
  link.click();
  // Not at once: the browser is only about to read it.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  return whole.history.length;
}
