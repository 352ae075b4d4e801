// desktop.mjs BASE TOKEN PROJECT …: for each project, in a fresh profile: signs in at BASE/app/#token=TOKEN, follows its link to NEST
// Desktop, opens the project and presses SIMULATE. Prints per project what came back and what went wrong.
import { launch } from './launch.mjs';

const [base, token, ...projects] = process.argv.slice(2);
const browser = await launch();

async function simulate(name) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  const page = await context.newPage();
  const errors = [];
  const foreign = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('request', (request) => {
    if (/^https?:/.test(request.url()) && !request.url().startsWith(base + '/')) foreign.push(request.url());
  });

  await page.goto(`${base}/app/#token=${token}`);
  const link = page.locator('a[href*="desktop"]').first();
  await link.waitFor({ state: 'visible', timeout: 30_000 });
  const greeted = page.waitForResponse((r) => r.url() === `${base}/api/GetKernelStatus` && r.request().method() === 'POST',
    { timeout: 60_000 });
  await link.click();
  const greeting = (await greeted).status();

  if (!page.url().includes('#/nest')) await page.goto(`${base}/desktop/#/nest`);
  const entry = page.getByText(name, { exact: true }).first();
  await entry.waitFor({ state: 'visible', timeout: 60_000 });
  // The page goes on loading its models one by one after it shows the projects, and errs on a project opened before.
  await page.waitForLoadState('networkidle', { timeout: 60_000 });
  await entry.click();
  const button = page.getByRole('button', { name: /simulate/i }).first();
  await button.waitFor({ state: 'visible', timeout: 60_000 });
  await page.waitForLoadState('networkidle', { timeout: 60_000 });
  // Pressed before its plots are laid out, the Desktop errs and sends nothing; a user presses again.
  const isRun = (r) => r.url().endsWith('/exec') && r.method() === 'POST';
  let request = null;
  for (let attempt = 0; request === null && attempt < 6; ++attempt) {
    await page.waitForTimeout(1_000);
    [request] = await Promise.all([page.waitForRequest(isRun, { timeout: 5_000 }).catch(() => null), button.click()]);
  }
  if (request === null) throw new Error(`nothing was sent; errors of the page: ${errors.join('; ')}`);
  const response = await request.response();
  const body = await response.json();
  const finished = await page.getByText('Simulation finished.').first().waitFor({ timeout: 60_000 }).then(() => true, () => false);
  const result = {
    name, greeting, finished, errors, foreign, url: response.url(), status: response.status(), page: page.url(),
    source: JSON.parse(request.postData()).source, message: body.message,
    events: (body.data?.events || []).map((e) => (e.times || []).length),
    positions: Object.keys(body.data?.positions || {}).length,
    chip: await page.locator(`button[title="${base}"]`).count(),
    service_workers: await page.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length),
  };
  await context.close();
  return result;
}

try {
  const results = [];
  for (const name of projects) results.push(await simulate(name));
  console.log(JSON.stringify({ results }));
} finally {
  await browser.close();
}
