// page.mjs URL COUNT: opens a page and prints window.results as soon as it has COUNT of them.
import { launch } from './launch.mjs';

const [url, count] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage();
  const errors = [];
  page.on('console', (message) => { if (message.type() === 'error') errors.push(message.text()); });
  await page.goto(url);
  await page.waitForFunction((n) => Object.keys(window.results || {}).length >= n, Number(count), { timeout: 60_000 });
  console.log(JSON.stringify({ results: await page.evaluate(() => window.results), errors }));
} finally {
  await browser.close();
}
