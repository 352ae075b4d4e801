// app.mjs WHAT BASE TOKEN [SHOTS]: drives the page at BASE/app/ in a fresh profile, as a person would, and prints what was seen. WHAT is
// one of the functions below. With SHOTS, a folder, pictures of the views are left there.
import { launch } from './launch.mjs';
import { overflow, visitor } from './visitor.mjs';

const [what, base, token, shots] = process.argv.slice(2);
const browser = await launch();

const open = (options) => visitor(browser, base, options);
const picture = (page, name) => (shots ? page.screenshot({ path: `${shots}/${name}.png` }) : undefined);
const signIn = async (page) => {
  await page.goto(`${base}/app/#token=${token}`);
  await page.locator('.example').first().waitFor();
};
const took = (page, nth = 0) => page.locator('.took').nth(nth).filter({ hasText: /done in|stopped after/ }).waitFor();
const inked = (page, selector) => page.evaluate((chosen) => {
  // How many pixels of a plot are no background.
  const canvas = document.querySelector(chosen);
  if (!canvas) return 0;
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 3; i < data.length; i += 4) if (data[i] > 0) count += 1;
  return count;
}, selector);
async function script(page, text, nth = 0) {
  await page.locator('.cm-content').nth(nth).click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(text);
}
async function fresh(page, engine, name) {
  await page.goto(`${base}/app/#/`);
  await page.getByLabel('Engine').selectOption(engine);
  await page.getByLabel('Name of the session').fill(name);
  await page.getByRole('button', { name: 'New session' }).click();
  await page.locator('.cm-content').waitFor();
}

const jobs = {
  async signin() {
    const { page, seen } = await open();
    await page.goto(`${base}/app/`);
    await page.getByRole('button', { name: 'Use an access token' }).click();
    await page.getByLabel('Access token').fill('not this one');
    await page.getByRole('button', { name: 'Sign in' }).click();
    const refused = await page.getByRole('alert').filter({ hasText: /\S/ }).textContent();
    await page.getByLabel('Access token').fill(token);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.locator('.example').first().waitFor();
    const { page: second } = await open();
    await signIn(second);
    const address = second.url();
    await second.getByRole('button', { name: 'Sign out' }).click();
    await second.getByLabel('Username').waitFor();
    return { ...seen, refused, address, kept: await second.evaluate(() => JSON.stringify([sessionStorage, localStorage])) };
  },

  async examples() {
    const { page, seen } = await open();
    const results = [];
    await signIn(page);
    await picture(page, 'start');
    const count = await page.locator('.example').count();
    for (let i = 0; i < count; ++i) {
      await page.goto(`${base}/app/#/`);
      await page.locator('.example').nth(i).click();
      await page.locator('.cm-content').waitFor();
      await took(page);
      await page.waitForTimeout(500);
      await picture(page, 'example-' + (i + 1));
      results.push({ title: await page.locator('h1').first().textContent(), alerts: await page.locator('[role=alert]').allTextContents(), ink: await inked(page, 'canvas'),
        plots: await page.locator('figure h2').allTextContents(), output: await page.locator('.out').textContent(), hints: await page.locator('.hint').allTextContents() });
    }
    return { ...seen, results };
  },

  async scripts() {
    const { page, seen } = await open();
    await signIn(page);
    await fresh(page, 'python', 'scripts');
    await script(page, 'x = 3\nprint("before")\ny = x / 0\n');
    await page.keyboard.press('Control+Enter');
    await page.locator('.cm-wrong').waitFor();
    await page.locator('.out pre.text', { hasText: 'before' }).waitFor();
    const wrong = await page.locator('.cm-wrong').textContent();
    const said = await page.locator('.cm-said').textContent();
    const output = await page.locator('.out').textContent();
    await picture(page, 'error');

    await script(page, 'import time\nz = 1\nwhile True: time.sleep(0.05)\n');
    await page.keyboard.press('Control+Enter');
    await page.getByRole('button', { name: 'Interrupt' }).click();
    await took(page);
    const interrupted = await page.locator('.bench .problem').textContent();

    // What was set before is still there; the draft survives a reload.
    await script(page, 'w = x + z\n');
    await page.getByRole('textbox', { name: 'Return' }).fill('w');
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Run Ctrl' }).click();
    await page.locator('.values').waitFor();
    const values = await page.locator('.values').textContent();
    await page.waitForTimeout(600);
    await page.reload();
    await page.locator('.cm-content').waitFor();
    await page.locator('.cm-line').first().waitFor();
    const draft = await page.locator('.cm-content').textContent();
    return { ...seen, wrong, said, output, interrupted, values, draft };
  },

  async ended() {
    const { page, seen } = await open();
    await signIn(page);
    await fresh(page, 'python', 'to end');
    await script(page, 'import os\nos._exit(3)\n');
    await page.keyboard.press('Control+Enter');
    const alert = page.locator('.problem', { hasText: 'This session has ended' });
    await alert.waitFor();
    const reason = await alert.textContent();
    const runDisabled = await page.getByRole('button', { name: 'Run Ctrl' }).isDisabled();
    await page.goto(`${base}/app/#/`);
    const line = page.locator('.cause', { hasText: 'Ended' }).first();
    await line.waitFor();
    return { ...seen, reason, runDisabled, listed: await line.textContent() };
  },

  async keyboard() {
    const { page, seen } = await open();
    await signIn(page);
    await page.keyboard.press('?');
    const keys = await page.locator('dialog').textContent();
    await page.keyboard.press('Escape');
    const views = {};
    for (const [key, heading] of [['r', 'Runs'], ['e', 'Engines'], ['s', 'Start']]) {
      await page.keyboard.press(key);
      await page.getByRole('heading', { level: 1, name: heading }).waitFor();
      views[key] = page.url().split('#')[1];
    }
    const before = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.keyboard.press('t');
    await page.keyboard.press('t');
    const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    // Everything can be reached by Tab, and what has the focus shows it.
    const unseen = [];
    for (let i = 0; i < 25; ++i) {
      await page.keyboard.press('Tab');
      const one = await page.evaluate(() => {
        const element = document.activeElement, style = getComputedStyle(element);
        return { name: element.outerHTML.slice(0, 80), shown: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0, body: element === document.body };
      });
      if (!one.body && !one.shown) unseen.push(one.name);
    }
    return { ...seen, keys, views, before, dark, unseen };
  },

  async phone() {
    const { page, seen } = await open({ viewport: { width: 390, height: 844 }, hasTouch: true });
    await signIn(page);
    const over = { start: await overflow(page) };
    await page.locator('.example').last().click();
    await page.locator('.cm-content').waitFor();
    await took(page);
    over.session = await overflow(page);
    for (const view of ['runs', 'engines']) {
      await page.goto(`${base}/app/#/${view}`);
      await page.locator('h1').first().waitFor();
      over[view] = await overflow(page);
    }
    return { ...seen, over };
  },

  // A cell, kept at a checkpoint, branched by its key, both gone on with; then the parent taken back.
  async cell() {
    const { page, seen } = await open();
    await signIn(page);
    await page.locator('.example').nth(1).click();
    await took(page);
    await page.getByLabel('Name of the checkpoint').fill('after 100 ms');
    await page.getByRole('button', { name: 'Keep this state' }).click();
    await page.locator('li', { hasText: 'after 100 ms' }).waitFor();
    await page.locator('h1').first().click();
    await page.keyboard.press('b');
    await page.waitForURL(/compare/);
    await page.locator('.cm-content').nth(1).waitFor();
    const scripts = await page.locator('.cm-content').allTextContents();
    await page.getByRole('button', { name: /Run both/ }).click();
    await took(page, 0);
    await took(page, 1);
    const row = page.locator('tr', { has: page.locator('td code', { hasText: /^v$/ }) });
    await row.waitFor();
    await page.waitForTimeout(500);
    await picture(page, 'compare-cell');
    const difference = await row.locator('td').allTextContents();
    const parent = page.url().split('/').at(-2);
    await page.goto(`${base}/app/#/session/${parent}`);
    await page.getByRole('button', { name: 'Rewind' }).click();
    await page.getByText(/^Back at after 100 ms/).waitFor();
    await script(page, 'last = h.t\n');
    await page.getByRole('textbox', { name: 'Return' }).fill('last');
    await page.getByRole('button', { name: 'Run Ctrl' }).click();
    await page.locator('.values').waitFor();
    const rewound = await page.locator('.values').textContent();
    await page.goto(`${base}/app/#/`);
    await page.locator('.twig').first().waitFor();
    return { ...seen, scripts, difference, rewound, branches: await page.locator('.twig').count() };
  },

  // A network while it runs; a branch; both compared.
  async branch() {
    const { page, seen } = await open();
    await signIn(page);
    await page.locator('.example').first().click();
    await page.locator('canvas').first().waitFor();
    const ink = [];
    const key = page.locator('.key').first();
    await key.waitFor();
    const counts = new Set();
    while (!(await page.locator('.took').first().textContent()).includes('done in')) {
      counts.add(await key.textContent());
      await page.waitForTimeout(50);
    }
    await page.waitForTimeout(500);
    ink.push(await inked(page, 'canvas'));
    await picture(page, 'session');
    await page.getByLabel('Name of the checkpoint').fill('settled');
    await page.getByRole('button', { name: 'Keep this state' }).click();
    await page.locator('li', { hasText: 'settled' }).waitFor();

    await page.getByRole('button', { name: /^Branch/ }).click();
    await page.waitForURL(/compare/);
    await page.getByRole('button', { name: /Run both/ }).click();
    await took(page, 0);
    await took(page, 1);
    await page.getByText('First difference').first().waitFor();
    await page.waitForTimeout(800);
    await picture(page, 'compare');
    const numbers = await page.locator('section', { hasText: 'In numbers' }).last().textContent();
    const plots = await page.locator('figure h2').allTextContents();

    const parent = page.url().split('/').at(-2);
    await page.goto(`${base}/app/#/session/${parent}`);
    await page.getByRole('button', { name: 'Rewind' }).click();
    await page.getByText(/^Back at settled/).waitFor();
    await page.goto(`${base}/app/#/`);
    await page.locator('.twig').first().waitFor();
    return { ...seen, counts: counts.size, ink, numbers, plots, branches: await page.locator('.twig').count() };
  },

  async runs() {
    const { page, seen } = await open();
    await signIn(page);
    await page.locator('.example').nth(1).click();
    await took(page);
    await page.getByLabel('Keep as a run').check();
    await page.getByLabel('Title of the run').fill('kept by the page');
    await page.getByRole('button', { name: 'Run Ctrl' }).click();
    await page.getByRole('link', { name: 'kept as a run' }).click();
    await page.getByRole('heading', { level: 1, name: 'kept by the page' }).waitFor();
    await page.locator('canvas').first().waitFor();
    await picture(page, 'run');
    const details = await page.locator('main').textContent();
    const downloads = {};
    for (const name of ['npz', 'csv', 'cbor', 'RO-Crate']) {
      const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: `↓ ${name}` }).click()]);
      downloads[name] = download.suggestedFilename();
    }
    await page.getByRole('button', { name: /Run again/ }).click();
    await page.locator('.verdict').waitFor();
    const verdict = await page.locator('.verdict').textContent();
    await page.goto(`${base}/app/#/runs`);
    await page.getByLabel('Title', { exact: true }).fill('kept by the page');
    await page.waitForTimeout(800);
    const listed = await page.locator('td.title').allTextContents();
    await picture(page, 'runs');
    return { ...seen, details, downloads, verdict, listed };
  },
};

try {
  console.log(JSON.stringify(await jobs[what]()));
} finally {
  await browser.close();
}
