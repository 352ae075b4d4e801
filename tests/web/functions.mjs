// functions.mjs WHAT BASE SHOTS JSON: drives the pages of functions at BASE/app/, as a person would, and prints what was seen. WHAT is
// one of the functions below, JSON what it needs to know. With SHOTS, a folder, pictures of the views are left there.
import fs from 'node:fs';
import { launch } from './launch.mjs';
import { overflow, visitor } from './visitor.mjs';

const [what, base, shots, given] = process.argv.slice(2);
const known = JSON.parse(given);
const browser = await launch();
const picture = (page, name, options = {}) => (shots ? page.screenshot({ path: `${shots}/${name}.png`, ...options }) : undefined);

/** A visitor with a token; without one: who has not signed in. */
async function enter(token, path = '/functions', options = {}) {
  const one = await visitor(browser, base, options);
  if (token) {
    await one.page.goto(`${base}/app/#token=${token}`);
    await one.page.locator('nav[aria-label=Main]').waitFor();
  }
  await one.page.goto(`${base}/app/#${path}`);
  await one.page.locator('nav[aria-label=Main]').waitFor();
  return one;
}
const open = async (page, name) => { await page.goto(`${base}/app/#/functions/${name}`); await page.getByRole('heading', { name: 'Parameters' }).waitFor(); };
const run = (page) => page.getByRole('button', { name: '▶ Run' }).click();
const result = (page) => page.locator('section.result');
const shown = async (page) => { await result(page).locator('.uplot, table.values, img.picture').first().waitFor(); };
const ink = (page, of = 'section.result canvas') => page.locator(of).first().evaluate((canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let n = 0;
  for (let i = 3; i < data.length; i += 4) if (data[i] > 60) n += 1;
  return n;
});
async function write(page, text) {
  await page.locator('.cm-content').click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(text);
}
const check = async (page) => { await page.getByRole('button', { name: 'Check' }).click(); await page.locator('footer .good, footer .bad').waitFor(); };
async function download(page, name) {
  const [got] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: `↓ ${name}` }).click()]);
  return { name: got.suggestedFilename(), bytes: fs.statSync(await got.path()).size };
}

const jobs = {
  async list() {
    const { page, seen } = await enter(known.token);
    await page.locator('li a.name').first().waitFor();
    const text = await page.locator('main').textContent();
    const count = await page.locator('li .engine').count();
    await page.getByLabel('Find a function').fill('tau cell');
    const found = await page.locator('li .engine').count();
    await page.getByLabel('Find a function').fill('no such thing');
    const none = await page.locator('main').textContent();
    const anyone = await visitor(browser, base);
    await anyone.page.goto(`${base}/app/`);
    await anyone.page.getByRole('link', { name: /without signing in/ }).click();
    await anyone.page.locator('li a.name').first().waitFor();
    const names = await anyone.page.locator('li a.name code').allTextContents();
    await anyone.page.locator('li a.name', { hasText: 'drawing.bar' }).click();
    await anyone.page.getByRole('heading', { name: 'Parameters' }).waitFor();
    await run(anyone.page);
    await shown(anyone.page);
    return { errors: [...seen.errors, ...anyone.seen.errors], foreign: [...seen.foreign, ...anyone.seen.foreign], text, count, found, none, names,
      anonymous: await anyone.page.locator('main').textContent(), editors: await anyone.page.getByRole('link', { name: 'Edit' }).count() };
  },

  async form() {
    const { page, seen } = await enter(known.token);
    await open(page, 'cells.leaky');
    await run(page);
    await shown(page);
    const first = await ink(page), took = await result(page).getByRole('status').textContent();
    // What the page finds itself, and what only the server knows, both at the field.
    await page.locator('#p-amp').fill('7');
    await run(page);
    const wrong = { amp: await page.locator('#p-amp-said').textContent(), focused: await page.evaluate(() => document.activeElement.id) };
    await page.locator('#p-amp').fill('0.2');
    await page.getByLabel('start: what is given').selectOption('value');
    await page.locator('#p-start').fill('-70');
    await page.locator('#p-method').selectOption('"euler"');
    await run(page);
    await page.waitForTimeout(500);
    const curl = await page.locator('pre.lines').textContent();
    await page.getByRole('button', { name: 'Python', exact: true }).click();
    const python = await page.locator('pre.lines').textContent();
    await page.getByRole('button', { name: 'Command line' }).click();
    const cli = await page.locator('pre.lines').textContent();
    const downloads = {};
    for (const name of ['JSON', 'CSV', 'npz']) downloads[name] = await download(page, name);
    await page.getByText('More', { exact: true }).click();
    await page.getByLabel('Keep as a run').check();
    await page.getByLabel('Title of the run').fill('kept from the form');
    await run(page);
    await page.getByRole('link', { name: 'kept as a run' }).click();
    await page.locator('h1').first().waitFor();
    const kept = page.url();
    // Live: the plot follows the slider.
    await open(page, 'cells.leaky');
    const bodies = [];
    page.on('request', (request) => { if (request.method() === 'POST' && /functions\/cells/.test(request.url())) bodies.push(JSON.parse(request.postData()).parameters); });
    await page.getByRole('switch', { name: 'Live' }).check();
    await shown(page);
    const slider = page.getByLabel('amp, slider');
    await slider.focus();
    for (let i = 0; i < 30; ++i) await page.keyboard.press('ArrowRight');
    await page.waitForTimeout(1000);
    return { ...seen, first, took, wrong, curl, python, cli, downloads, kept, calls: bodies.length, last: bodies[bodies.length - 1], field: await page.locator('#p-amp').inputValue() };
  },

  // What only the server refuses, a picture, values, and an error of the function itself.
  async answers() {
    const { page, seen } = await enter(known.token);
    await open(page, 'kinds.picky');
    await page.locator('#p-path').fill('not-there.txt');
    await run(page);
    await page.locator('#p-path-said.said').waitFor();
    const path = await page.locator('#p-path-said').textContent();
    await open(page, 'kinds.many');
    await page.locator('#p-flag').check();
    await page.locator('#p-values').fill('1 2\n3 4');
    await page.locator('#p-words').fill('soma, dend');
    await page.locator('#p-anything').fill('{"a": [1, null]}');
    await run(page);
    await shown(page);
    const values = await result(page).locator('table.values').textContent();
    await open(page, 'drawing.bar');
    await run(page);
    await page.locator('img.picture').waitFor();
    const pictures = { src: (await page.locator('img.picture').getAttribute('src')).slice(0, 26), width: await page.locator('img.picture').evaluate((one) => one.naturalWidth), svg: await download(page, 'SVG') };
    await open(page, 'kinds.fails');
    await run(page);
    await result(page).getByRole('alert').waitFor();
    const failed = await result(page).getByRole('alert').textContent();
    await open(page, 'kinds.endless');
    await run(page);
    const running = await page.getByRole('button', { name: /Running/ }).textContent();
    await page.getByRole('button', { name: '■ Cancel' }).click();
    await page.getByRole('button', { name: '▶ Run' }).waitFor();
    return { ...seen, path, values, pictures, failed, running };
  },

  async write() {
    const { page, seen } = await enter(known.token);
    await page.getByLabel('Name of a new package').fill('9 x');
    await page.getByRole('button', { name: 'Write a function' }).click();
    const badName = await page.locator('#package-said').textContent();
    await page.getByLabel('Name of a new package').fill('mine');
    await page.getByRole('button', { name: 'Write a function' }).click();
    await page.locator('.cm-content').waitFor();
    await check(page);
    const template = await page.locator('footer .state').first().textContent();
    await write(page, 'def double(x: float = 2.0):\n    return x *\n');
    await check(page);
    const wrong = { line: await page.locator('.cm-wrong').textContent(), said: await page.locator('.cm-said').textContent(), publish: await page.getByRole('button', { name: 'Publish' }).isDisabled() };
    await picture(page, 'function-error');
    await write(page, 'def double(x: float = 2.0):\n    if x > 100:\n        raise ValueError("too large")\n    return {"twice": x * 2}\n');
    await check(page);
    await page.locator('#p-x').fill('4');
    await run(page);
    await shown(page);
    const tried = await result(page).locator('table.values').textContent();
    await page.locator('#p-x').fill('400');
    await run(page);
    await page.locator('.cm-wrong').waitFor();
    const raised = await page.locator('.cm-wrong').textContent();
    await page.getByLabel('For', { exact: true }).selectOption('all');
    await page.getByRole('button', { name: 'Publish' }).click();
    await page.getByText(/Version 1 is published/).waitFor();
    // Somebody else calls it.
    const other = await enter(known.other, '/functions');
    await other.page.getByRole('link', { name: 'mine.double' }).click();
    await other.page.getByRole('heading', { name: 'Parameters' }).waitFor();
    await run(other.page);
    await shown(other.page);
    const theirs = await result(other.page).locator('table.values').textContent(), edits = await other.page.getByRole('link', { name: 'Edit' }).count();
    // A second version, and back to the first.
    await write(page, 'def double(x: float = 2.0):\n    return {"thrice": x * 3}\n');
    await check(page);
    await page.getByRole('button', { name: 'Publish' }).click();
    await page.getByText(/Version 2 is published/).waitFor();
    const versions = await page.locator('section[aria-labelledby=versions-title] li').allTextContents();
    await open(page, 'mine.double/1');
    await run(page);
    await shown(page);
    const old = await result(page).locator('table.values').textContent();
    await page.goto(`${base}/app/#/packages/mine`);
    await page.locator('section[aria-labelledby=versions-title] li').nth(1).waitFor();
    const back = page.locator('section[aria-labelledby=versions-title] li').nth(1).getByRole('button');
    await back.click();
    await back.click();
    await page.locator('footer .good').waitFor();
    const restored = await page.locator('.cm-content').textContent();
    await page.getByLabel('For', { exact: true }).selectOption('all');
    await page.getByRole('button', { name: 'Publish' }).click();
    await page.getByText(/Version 3 is published/).waitFor();
    await run(other.page);
    await other.page.waitForTimeout(1000);
    const again = await result(other.page).locator('table.values').textContent();
    const remove = page.getByRole('button', { name: /Delete/ }).first();
    await remove.click();
    await remove.click();
    await page.getByLabel('Name of a new package').waitFor();
    return { errors: [...seen.errors, ...other.seen.errors], foreign: [...seen.foreign, ...other.seen.foreign], badName, template, wrong, tried, raised, theirs, edits, versions, old, restored, again };
  },

  // A MOD file: made, wrong, marked at its line by nrnivmodl, repaired, used.
  async mod() {
    const { page, seen } = await enter(known.token, '/packages/channel');
    await page.locator('.cm-content').waitFor();
    await write(page, known.cell);
    await page.getByRole('button', { name: '+ File' }).click();
    await page.getByLabel('Path of the new file').fill('leaky.mod');
    await page.getByRole('button', { name: 'Make it' }).click();
    await page.getByRole('button', { name: 'leaky.mod', exact: true }).waitFor();
    await page.waitForFunction(() => /SUFFIX leaky/.test(document.querySelector('.code .editor')?.shadowRoot?.querySelector('.cm-content')?.textContent ?? ''));
    const template = await page.locator('.cm-content').innerText();
    await write(page, template.replace('i = g * (v - e)', 'i = g * (v - e'));
    await page.getByRole('button', { name: 'channel.py' }).click();
    await check(page);
    const wrong = { line: await page.locator('.cm-wrong').textContent(), said: await page.locator('.error').textContent() };
    await write(page, template);
    await check(page);
    const state = await page.locator('footer .state').first().textContent();
    await run(page);
    await shown(page);
    return { ...seen, wrong, state, value: await result(page).locator('table.values').textContent() };
  },

  async sweep() {
    const { page, seen } = await enter(known.token);
    await open(page, 'cells.leaky');
    await page.getByRole('button', { name: 'Sweep …' }).click();
    const panel = page.locator('section[aria-labelledby=sweep-title]');
    await panel.getByLabel('points').fill('3');
    await panel.getByRole('button', { name: '+ Second parameter' }).click();
    await panel.getByLabel('points').nth(1).fill('2');
    await panel.getByRole('button', { name: 'Sweep 6 points' }).click();
    await panel.getByText('6 of 6 points').waitFor();
    await panel.locator('.uplot').waitFor();
    const drawn = await panel.getByLabel('What is drawn').inputValue(), size = await ink(page, 'section[aria-labelledby=sweep-title] canvas');
    await panel.getByLabel('from').first().fill('-50');
    const wrong = await panel.getByRole('alert').textContent();
    await open(page, 'kinds.slow');
    await page.getByRole('button', { name: 'Sweep …' }).click();
    await panel.getByLabel('points').fill('40');
    await panel.getByRole('button', { name: 'Sweep 40 points' }).click();
    await page.waitForFunction(() => /^\s*[1-9]\d* of 40/.test(document.querySelector('section[aria-labelledby=sweep-title] .state p')?.textContent ?? ''));
    await panel.locator('.uplot').waitFor();
    await panel.getByRole('button', { name: 'Cancel the sweep' }).click();
    await panel.getByText('cancelled').waitFor();
    return { ...seen, drawn, size, wrong, cancelled: await panel.locator('.state p').first().textContent(), plots: await panel.locator('.uplot').count() };
  },

  // The cell that the server has itself: its plots follow a slider, its picture comes when it is asked for.
  async cell() {
    const { page, seen } = await enter(null, '/functions');
    await page.locator('li a.name', { hasText: known.name }).click();
    await page.getByRole('heading', { name: 'Parameters' }).waitFor();
    await page.getByRole('switch', { name: 'Live' }).check();
    await shown(page);
    const before = await result(page).locator('.uplot').count(), plots = () => result(page).locator('canvas').evaluateAll((all) => all.map((one) => one.toDataURL().length));
    const first = await plots();
    await page.getByLabel('gna, slider').focus();
    for (let i = 0; i < 12; ++i) await page.keyboard.press('ArrowLeft');
    await page.waitForTimeout(1500);
    const then = await plots();
    await page.getByRole('switch', { name: 'Live' }).uncheck();
    await page.getByRole('button', { name: /Show the picture/ }).click();
    await page.locator('img.drawn').waitFor();
    await page.waitForFunction(() => document.querySelector('img.drawn').naturalWidth > 100);
    return { ...seen, before, first, then, png: await download(page, 'PNG'), sweeps: await page.getByRole('button', { name: 'Sweep …' }).count() };
  },

  async markup() {
    const { page, seen } = await enter(known.token);
    await page.locator('li a.name').first().waitFor();
    const views = {};
    const look = async (name) => {
      views[name] = { found: await page.locator('b.x, img[src=x]').count(), text: (await page.locator('main').textContent()).includes(known.markup) };
    };
    await look('list');
    await open(page, 'marked.f');
    await look('form');
    await run(page);
    await shown(page);
    await page.waitForTimeout(500);
    await look('result');
    await page.locator('#p-value').fill('no number ' + known.markup);
    await run(page);
    await look('refusal');
    await open(page, 'marked.g');
    await run(page);
    await result(page).getByRole('alert').waitFor();
    await look('error');
    return { ...seen, views, ran: await page.evaluate(() => window.ran === undefined) };
  },

  async phone() {
    const over = {}, unseen = [], nameless = [];
    const { page, seen } = await enter(known.token, '/functions', { viewport: { width: 360, height: 740 }, colorScheme: 'dark' });
    const look = async (name) => {
      over[name] = await overflow(page);
      await picture(page, `phone-${name}`, { fullPage: true });
      nameless.push(...await page.evaluate((view) => [...document.querySelectorAll('main button, main input, main select, main textarea, main a')].filter((one) => !one.closest('[hidden]') && one.type !== 'file'
        && !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length || one.title)).map((one) => `${view}: ${one.outerHTML.slice(0, 90)}`), name));
    };
    await page.locator('li a.name').first().waitFor();
    await look('functions');
    await open(page, 'cells.leaky');
    await page.getByRole('button', { name: 'Sweep …' }).click();
    await run(page);
    await shown(page);
    await look('form');
    await open(page, 'kinds.many');
    await look('kinds');
    await page.goto(`${base}/app/#/packages/phone`);
    await page.locator('.cm-content').waitFor();
    await check(page);
    await look('editor');
    await open(page, 'cells.leaky');
    for (let i = 0; i < 25; ++i) {
      await page.keyboard.press('Tab');
      const bad = await page.evaluate(() => { const one = document.activeElement; return one === document.body || getComputedStyle(one).outlineStyle !== 'none' ? null : one.outerHTML.slice(0, 90); });
      if (bad) unseen.push(bad);
    }
    return { ...seen, over, unseen, nameless };
  },

  async pictures() {
    const { page, seen } = await enter(known.token, '/functions', { viewport: { width: 1280, height: 800 } });
    await page.locator('li a.name').first().waitFor();
    await page.waitForTimeout(500);
    await picture(page, 'functions');
    await open(page, known.example);
    await page.getByRole('switch', { name: 'Live' }).check();
    await shown(page);
    for (const [name, value] of Object.entries(known.values)) await page.locator('#p-' + name).fill(value);
    await page.waitForTimeout(1500);
    await page.setViewportSize({ width: 1280, height: 1560 });
    await page.evaluate(() => scrollTo(0, 0));
    await page.waitForTimeout(500);
    await picture(page, 'function-form');
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.goto(`${base}/app/#/packages/my_cell`);
    await page.locator('.cm-content').waitFor();
    await write(page, known.wrong);
    await check(page);
    await page.mouse.move(0, 0);
    await page.waitForTimeout(300);
    await picture(page, 'function-editor');
    return seen;
  },
};

try {
  console.log(JSON.stringify(await jobs[what]()));
} finally {
  await browser.close();
}
