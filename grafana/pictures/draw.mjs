// Draws dashboards as PNG files: asks Prometheus what the panels ask, and has a headless Chromium render page.tsx with the answers.
//
//   node draw.mjs --prometheus http://127.0.0.1:9090 --range 5m --out . ../dashboards/*.json

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import * as esbuild from 'esbuild';
import { chromium } from 'playwright-core';
import sharp from 'sharp';

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = path.join(here, 'node_modules');
const width = 1600;

const { values: options, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    prometheus: { type: 'string', default: 'http://127.0.0.1:9090' },
    range: { type: 'string', default: '5m' }, // the dashboards' own range is longer than the service has run
    scrape: { type: 'string', default: '5s' }, // the data source's scrape interval, from which Grafana makes $__rate_interval
    rows: { type: 'string', default: 'Infinity' }, // how many rows of the grid are drawn
    out: { type: 'string', default: here },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
  },
});

const seconds = (text) => {
  const [, number, unit] = /^(\d+)(s|m|h|d)$/.exec(text) ?? fail(`not a duration: ${text}`);
  return number * { s: 1, m: 60, h: 3600, d: 86400 }[unit];
};

function fail(message) {
  throw new Error(message);
}

async function ask(call, parameters) {
  const response = await fetch(`${options.prometheus}/api/v1/${call}?${new URLSearchParams(parameters)}`);
  const answer = await response.json();
  return answer.status === 'success' ? answer.data : fail(`${call} ${JSON.stringify(parameters)}: ${answer.error}`);
}

/** `$name`, `${name}` and `${name:format}`; unknown ones stay, such as `$1` in label_replace. */
const interpolate = (text, variables) =>
  text.replace(/\$(?:(\w+)|\{(\w+)(?::\w+)?\})/g, (whole, bare, braced) => variables[bare ?? braced] ?? whole);

/** What Grafana would put in place of each of the dashboard's variables. */
async function variablesOf(dashboard, range) {
  const variables = { __range: `${range}s`, __range_s: range, __range_ms: range * 1000 };
  for (const { name, type, query, multi, includeAll, allValue, current } of dashboard.templating?.list ?? []) {
    if (type !== 'query') {
      variables[name] = type === 'datasource' ? 'Prometheus' : (current?.value ?? query);
      continue;
    }
    const [, metric, label] =
      /^label_values\((?:(.+),)?\s*(\w+)\s*\)$/s.exec(query.query ?? query) ?? fail(`$${name} is not a query of label_values`);
    const known = await ask(`label/${label}/values`, metric ? { 'match[]': interpolate(metric, variables) } : {});
    if (known.length === 0) fail(`$${name} has no values: ${JSON.stringify(query)}`);
    variables[name] = !multi && !includeAll ? known[0] : allValue || known.join('|');
  }
  return variables;
}

/** The answers to one panel's queries, at the resolution that Grafana would choose for the panel's width. */
async function answersOf(panel, variables, range, end) {
  const scrape = seconds(options.scrape);
  const points = panel.maxDataPoints ?? Math.ceil((width / 24) * panel.gridPos.w);
  const answers = [];
  for (const target of panel.targets ?? []) {
    if (target.hide) continue;
    const least = target.interval || panel.interval ? seconds(interpolate(target.interval || panel.interval, variables)) : scrape;
    const step = Math.max(least, Math.ceil(range / points));
    const query = interpolate(target.expr, {
      ...variables,
      __interval: `${step}s`,
      __interval_ms: step * 1000,
      __rate_interval: `${Math.max(step + scrape, 4 * scrape)}s`,
    });
    const { result } = target.instant
      ? await ask('query', { query, time: end })
      : await ask('query_range', { query, start: end - range, end, step });
    if (result.length === 0) console.warn(`${panel.title}: no data for ${query}`);
    answers.push({ target, query, step, result });
  }
  return answers;
}

/** Everything that the page needs to draw a dashboard. */
async function load(file, end) {
  const dashboard = JSON.parse(await readFile(file, 'utf8'));
  dashboard.panels = dashboard.panels.filter(({ gridPos: { y, h } }) => y + h <= Number(options.rows));
  const range = seconds(options.range);
  const variables = await variablesOf(dashboard, range);
  const answers = {};
  for (const panel of dashboard.panels) {
    answers[panel.id] = await answersOf(panel, variables, range, end);
  }
  return { dashboard, variables, answers, from: (end - range) * 1000, to: end * 1000, range: options.range, width };
}

async function bundle() {
  const { outputFiles } = await esbuild.build({
    entryPoints: [path.join(here, 'page.tsx')],
    bundle: true,
    write: false,
    outdir: '/',
    format: 'esm',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
    loader: { '.ttf': 'empty', '.svg': 'empty', '.png': 'empty' },
    logLevel: 'error',
  });
  return Object.fromEntries(outputFiles.map(({ path: name, contents }) => [name, Buffer.from(contents)]));
}

const types = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
const html = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><link rel="stylesheet" href="/page.css">
<div id="root"></div><script type="module" src="/page.js"></script>`;

/** The page's files, by the names under which Grafana's components look for them. Nothing goes to the network. */
async function serve(route, bundled) {
  const name = new URL(route.request().url()).pathname;
  if (name === '/') return route.fulfill({ contentType: 'text/html', body: html });
  const contentType = types[path.extname(name)];
  if (bundled[name]) return route.fulfill({ contentType, body: bundled[name] });
  const file = name
    .replace(/^\/public\/fonts\/inter\//, `${modules}/inter-ui/web/`)
    .replace(/^\/public\/fonts\/roboto\/.*/, `${modules}/@fontsource/roboto-mono/files/roboto-mono-latin-400-normal.woff2`)
    .replace(/^\/public\/build\/img\//, `${modules}/@grafana/ui/dist/public/img/`);
  return file === name ? route.fulfill({ status: 404 }) : route.fulfill({ contentType, path: file });
}

async function draw(browser, bundled, file, end) {
  const data = await load(file, end);
  // Tables stay empty below the edge of the window, so it is as high as any dashboard.
  const page = await browser.newPage({ viewport: { width, height: 5000 }, timezoneId: 'UTC' });
  const broken = new Promise((_, reject) => {
    page.on('pageerror', reject);
    page.on('console', (message) => message.type() === 'error' && reject(new Error(`${message.text()} ${message.location().url}`)));
  });
  await page.route('**', (route) => serve(route, bundled));
  await page.addInitScript((value) => (window.picture = value), data);
  await page.goto('http://pictures.localhost/');
  await Promise.race([page.waitForFunction(() => window.drawn, null, { timeout: 60_000 }), broken]);
  await page.waitForLoadState('networkidle'); // icons come last

  const picture = path.join(options.out, `${path.basename(file, '.json')}.png`);
  const { size } = await sharp(await page.locator('#root').screenshot({ animations: 'disabled' }))
    .png({ palette: true, colours: 256, dither: 0, effort: 10, compressionLevel: 9 })
    .toFile(picture);
  console.log(`${picture}: ${Math.round(size / 1000)} KB`);
  await page.close();
}

const bundled = await bundle();
const browser = await chromium.launch({
  executablePath: options.chromium,
  args: [
    '--no-sandbox', // root has no sandbox, and the page shows nothing but this repository's own files
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
try {
  const end = Math.floor(Date.now() / 1000) - 1;
  for (const file of files) await draw(browser, bundled, file, end);
} finally {
  await browser.close();
}
