// accounts.mjs WHAT BASE SHOTS JSON: drives the pages of accounts at BASE/app/, as a person would, and prints what was seen. WHAT is one
// of the functions below, JSON what it needs to know. With SHOTS, a folder, pictures of the views are left there.
import { launch } from './launch.mjs';
import { overflow, visitor } from './visitor.mjs';

const [what, base, shots, given] = process.argv.slice(2);
const known = JSON.parse(given);
const browser = await launch();
const open = (options) => visitor(browser, base, options);
const picture = (page, name, options = {}) => (shots ? page.screenshot({ path: `${shots}/${name}.png`, ...options }) : undefined);

async function type(page, username, password) {
  await page.getByLabel('Username').fill(username);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}
const inside = (page) => page.locator('nav[aria-label=Main]').waitFor();
async function signIn(page, username, password) {
  await page.goto(`${base}/app/`);
  await type(page, username, password);
  await inside(page);
}
const said = (page) => page.locator('.said:not(:empty)').first();
const cookies = async (context) => (await context.cookies()).map(({ name, httpOnly, secure, sameSite }) => ({ name, httpOnly, secure, sameSite }));
const stores = (page) => page.evaluate(() => JSON.stringify([sessionStorage, localStorage, document.cookie]));

const jobs = {
  async signin() {
    const { page, seen, context } = await open();
    await page.goto(`${base}/app/`);
    await page.getByLabel('Username').waitFor();
    const focused = await page.evaluate(() => document.activeElement.id);
    await picture(page, 'signin');
    await type(page, known.user, 'not this one');
    await said(page).waitFor();
    const wrong = await said(page).textContent();
    await type(page, known.user, known.password);
    await inside(page);
    const kept = await stores(page), tokens = await cookies(context);
    // A script runs in a session and its stream is followed, all by the cookie.
    await page.getByLabel('Engine').selectOption('python');
    await page.getByLabel('Name of the session').fill('by cookie');
    await page.getByRole('button', { name: 'New session' }).click();
    await page.locator('.cm-content').click();
    await page.keyboard.press('Control+a');
    await page.keyboard.insertText('print("one", "two")\n');
    await page.keyboard.press('Control+Enter');
    await page.locator('pre.text').waitFor();
    const output = await page.locator('pre.text').textContent();
    await page.waitForTimeout(500);
    const pills = await page.locator('.pill').allTextContents();
    await page.reload();
    await page.locator('.cm-content').waitFor();
    const user = await page.locator('a.user').textContent();
    const other = await context.newPage();
    await other.goto(`${base}/app/`);
    await inside(other);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Username').waitFor();
    const began = Date.now();
    await other.getByLabel('Username').waitFor();
    return { ...seen, focused, wrong, kept, tokens, output, pills, user, left: await cookies(context),
      otherAfter: Date.now() - began, otherSaid: await other.getByRole('alert').first().textContent() };
  },
};

try {
  console.log(JSON.stringify(await jobs[what]()));
} finally {
  await browser.close();
}
