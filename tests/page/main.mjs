// All tests in a browser, one after the other.

import { after } from 'node:test';

import { browser } from './browser.mjs';
import './page.mjs';
import './client.mjs';

after(() => browser.close());
