import { chromium } from 'playwright-core';

// Debian's Chromium. Its own sandbox needs what containers and root lack; the pages here are ours.
export async function launch(more = []) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', ...more],
  });
}
