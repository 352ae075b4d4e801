// A page in a fresh profile, and what went wrong in it or was asked of another host.
export async function visitor(browser, base, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 850 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  const seen = { errors: [], foreign: [] };
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('console', (message) => {
    // A route that this server lacks, or a script that failed, is a failed request too; all else is a mistake of the page.
    if (message.type() === 'error' && !/Failed to load resource|WebSocket connection/.test(message.text())) seen.errors.push(message.text());
  });
  page.on('request', (request) => {
    if (/^(https?|wss?):/.test(request.url()) && !request.url().replace(/^ws/, 'http').startsWith(base + '/')) seen.foreign.push(request.url());
  });
  return { page, seen, context };
}
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
