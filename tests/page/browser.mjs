// A browser, and pages in it that are held to what every page here has to keep: no error on the console, no byte from elsewhere.

import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const packages = createRequire(resolve('target/browser/package.json'));
const { chromium } = packages('playwright-core');
const axe = await readFile(packages.resolve('axe-core/axe.min.js'), 'utf8');

export const WIDE = { width: 1280, height: 1000 };
export const NARROW = { width: 390, height: 844 };

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});

/** What a page did that it should not have. */
export class Faults {
  list = [];
  allowed = [];

  constructor(page, origins) {
    page.on('console', message => ['error', 'warning'].includes(message.type()) && this.list.push(`console: ${message.text()} ${message.location().url}`));
    page.on('pageerror', error => this.list.push(`thrown: ${error}`));
    page.on('request', request => {
      const { origin, protocol } = new URL(request.url());
      if (protocol !== 'blob:' && !origins.includes(origin)) this.list.push(`elsewhere: ${request.url()}`);
    });
  }

  /** A fault that a test brings about on purpose. */
  allow(...patterns) {
    this.allowed.push(...patterns);
  }

  check() {
    assert.deepEqual(this.list.filter(fault => !this.allowed.some(pattern => pattern.test(fault))), []);
  }
}

/** A page, alone in its context; `use` gets it, and afterwards its faults are looked at. */
export async function withPage({ url, origins = [new URL(url).origin], viewport = WIDE, colorScheme = 'light' }, use) {
  const context = await browser.newContext({ viewport, colorScheme, locale: 'en-GB', timezoneId: 'Europe/Berlin', acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const faults = new Faults(page, origins);
  try {
    await page.goto(url);
    await use(page, faults);
    faults.check();
  } finally {
    await context.close();
  }
}

/** The text of an element that shows a figure, as a number. */
export const figure = async (page, name) => Number((await page.textContent(`[data-figure="${name}"]`)).replaceAll(',', ''));

/** What axe-core finds: nothing is to be found. Run beside the page's own scripts, not among them: its policy lets no other in. */
export async function audit(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const said = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(node => node.target.join(' ')).join(', ')}`);
  assert.deepEqual(said, []);
}

export async function picture(page, name, options = {}) {
  await mkdir(process.env.PICTURES, { recursive: true });
  await page.screenshot({ path: join(process.env.PICTURES, `${name}.png`), animations: 'disabled', ...options });
}
