// accounts.mjs WHAT BASE SHOTS JSON: drives the pages of accounts at BASE/app/, as a person would, and prints what was seen. WHAT is one
// of the functions below, JSON what it needs to know. With SHOTS, a folder, pictures of the views are left there.
import { launch } from './launch.mjs';
import { overflow, visitor } from './visitor.mjs';

const [what, base, shots, given] = process.argv.slice(2);
const known = JSON.parse(given);
const browser = await launch(['--host-resolver-rules=MAP lab.test 127.0.0.1']); // a name that is not this machine's
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
    const user = await page.locator('a.user').textContent(), nav = await page.locator('nav[aria-label=Main]').textContent();
    const other = await context.newPage();
    await other.goto(`${base}/app/`);
    await inside(other);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Username').waitFor();
    const began = Date.now();
    await other.getByLabel('Username').waitFor();
    return { ...seen, focused, wrong, kept, tokens, output, pills, user, nav, left: await cookies(context),
      otherAfter: Date.now() - began, otherSaid: await other.getByRole('alert').first().textContent() };
  },

  // An admin gave the password: only the form is to be had until there is another one.
  async mustChange() {
    const { page, seen } = await open();
    await page.goto(`${base}/app/#/runs`);
    await type(page, known.user, known.password);
    await page.getByRole('heading', { name: 'Choose a password of your own' }).waitFor();
    await picture(page, 'must-change');
    await page.reload();
    await page.getByLabel('Current password', { exact: true }).waitFor();
    const only = { navigation: await page.locator('nav').count(), url: page.url() };
    const send = async (old, fresh, again) => {
      await page.getByLabel('Current password', { exact: true }).fill(old);
      await page.getByLabel('New password', { exact: true }).fill(fresh);
      await page.getByLabel('New password again', { exact: true }).fill(again);
      await page.getByRole('button', { name: 'Set the password' }).click();
    };
    const saidOf = (id) => page.locator(`#${id}-said:not(:empty)`).textContent();
    await send(known.password, known.fresh, 'another');
    const differ = await saidOf('new-password-again');
    await send('not the old one', known.fresh, known.fresh);
    const old = await saidOf('old-password');
    await send(known.password, 'password1', 'password1');
    const weak = await saidOf('new-password');
    const focused = await page.evaluate(() => document.activeElement.id);
    await picture(page, 'weak');
    await send(known.password, known.fresh, known.fresh);
    await inside(page);
    return { ...seen, only, differ, old, weak, focused, heading: await page.getByRole('heading', { level: 1 }).first().textContent() };
  },

  // By another service, which is another site: there, back to what was to be seen, out; and what is said when it did not work.
  async provider() {
    const { page, seen, context } = await open();
    await page.goto(`${base}/app/#/account`);
    const button = page.getByRole('link', { name: 'Sign in with Institute' });
    await button.waitFor();
    await picture(page, 'signin-provider');
    await button.click();
    await page.locator('input[name=login]').fill('sub-anna');
    await page.locator('input[name=password]').fill('any');
    await page.locator('button[type=submit]').click();
    await page.getByRole('button', { name: 'Continue' }).click();
    await inside(page);
    const user = await page.locator('a.user').textContent(), url = page.url(), kept = await stores(page);
    const tokens = (await cookies(context)).filter((one) => one.name.startsWith('__Host-myelin'));
    await page.getByRole('banner').getByRole('button', { name: 'Sign out' }).click();
    await button.waitFor();
    const left = (await cookies(context)).filter((one) => one.name.startsWith('__Host-myelin'));
    const told = {};
    for (const code of known.codes) {
      await page.goto(`${base}/app/?signin=${encodeURIComponent(code)}`);
      await page.getByRole('alert').first().waitFor();
      told[code] = await page.getByRole('alert').first().textContent();
      if (page.url().includes('?')) throw new Error(`still there: ${page.url()}`);
    }
    await picture(page, 'signin-failed');
    const wide = await overflow(page);
    return { ...seen, user, url, kept, tokens, left, told, wide };
  },

  // Over plain http from elsewhere a browser keeps no sign-in: only a token works, and the page says why.
  async plainHttp() {
    const { page, seen } = await open();
    await page.goto(`${base}/app/`);
    await page.getByLabel('Access token').waitFor();
    await picture(page, 'plain-http');
    const text = await page.locator('main').textContent();
    const others = await page.getByLabel('Username').count() + await page.getByRole('button', { name: 'Use username and password' }).count();
    await page.getByLabel('Access token').fill(known.token);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.locator('a.user').waitFor();
    return { ...seen, text, others, user: await page.locator('a.user').textContent() };
  },

  async refused() {
    const { page, seen } = await open();
    await page.clock.install();
    await page.goto(`${base}/app/`);
    await type(page, known.inactive, known.password);
    await said(page).waitFor();
    const inactive = await said(page).textContent();
    let wait = '';
    for (let i = 0; i < 12 && !/wait/.test(wait); ++i) {
      await type(page, known.user, 'wrong ' + i);
      await page.getByRole('button', { name: 'Sign in' }).filter({ hasText: 'Sign in' }).waitFor();
      await said(page).waitFor();
      wait = await said(page).textContent();
    }
    const disabled = await page.getByRole('button', { name: 'Sign in' }).isDisabled();
    await page.clock.fastForward(61_000);  // it may say minutes
    await page.waitForFunction((before) => document.querySelector('.said:not(:empty)')?.textContent !== before, wait);
    const later = await page.locator('#password-said').textContent();
    return { ...seen, inactive, wait, disabled, later };
  },

  async reset() {
    const { page, seen } = await open();
    await page.goto(known.link);
    await page.getByRole('heading', { name: 'Set your password' }).waitFor();
    const address = page.url();
    const send = async (fresh) => {
      await page.getByLabel('New password', { exact: true }).fill(fresh);
      await page.getByLabel('New password again', { exact: true }).fill(fresh);
      await page.getByRole('button', { name: 'Set the password' }).click();
    };
    await send('12345678');
    const weak = await page.locator('#new-password-said:not(:empty)').textContent();
    await send(known.password);
    await page.getByText('Your password is set').waitFor();
    await type(page, known.user, known.password);
    await inside(page);
    // The same link in the tab that has the page open.
    await page.evaluate((link) => { location.hash = new URL(link).hash; }, known.link);
    await page.getByRole('heading', { name: 'Set your password' }).waitFor();
    await send('seven-quiet-doors-open');
    const used = await page.getByRole('alert').filter({ hasText: 'link' }).textContent();
    return { ...seen, address, weak, used };
  },

  async account() {
    const { page, seen } = await open();
    await signIn(page, known.user, known.password);
    await page.locator('a.user').click();
    await page.getByLabel('Email').fill('anna@lab.example');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Your email is kept').waitFor();
    const tokens = {};
    for (const bounded of [false, true]) {
      await page.getByRole('button', { name: 'New token' }).click();
      await page.getByLabel('Name', { exact: true }).fill(bounded ? 'bounded' : 'notebook');
      if (bounded) {
        await page.getByLabel('do only this').check();
        await page.getByLabel('Runs: see').check();
        await page.getByLabel('And single ones').fill('view:session');
        await page.getByLabel('Valid').selectOption({ label: 'for a day' });
        await picture(page, 'token');
      }
      await page.getByRole('button', { name: 'Make the token' }).click();
      tokens[bounded ? 'bounded' : 'all'] = await page.getByLabel('The new token', { exact: true }).last().inputValue();
      await picture(page, 'token-made');
      await page.getByRole('button', { name: 'I have it' }).click();
    }
    await page.getByRole('button', { name: 'New token' }).click();
    await page.getByLabel('Name', { exact: true }).fill('notebook');
    await page.getByRole('button', { name: 'Make the token' }).click();
    const twice = await page.locator('#token-name-said:not(:empty)').textContent();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('button', { name: 'Revoke bounded' }).click();
    await page.getByRole('button', { name: 'Revoke it?' }).click();
    await page.locator('td', { hasText: 'bounded' }).waitFor({ state: 'detached' });
    await page.waitForTimeout(300);
    const page_text = await page.locator('main').textContent();
    await page.locator('.toast').first().waitFor({ state: 'detached' });
    await picture(page, 'account');
    await page.getByRole('button', { name: 'Change it' }).click();
    await page.getByLabel('Current password', { exact: true }).fill(known.password);
    await page.getByLabel('New password', { exact: true }).fill(known.fresh);
    await page.getByLabel('New password again', { exact: true }).fill(known.fresh);
    await page.getByRole('button', { name: 'Change the password' }).click();
    await page.getByText('Your password is changed').waitFor();
    return { ...seen, tokens, twice, text: page_text };
  },

  async users() {
    const { page, seen } = await open();
    await signIn(page, known.admin, known.password);
    await page.goto(`${base}/app/#/users`);
    await page.getByRole('button', { name: 'Add user' }).click();
    await page.getByLabel('Username').fill(known.user);
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    const taken = await page.locator('#user-name-said:not(:empty)').textContent();
    await page.getByLabel('Username').fill('carla');
    await page.getByLabel('Role', { exact: true }).selectOption('guest');
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    const link = await page.getByLabel('Link for carla').inputValue();
    await picture(page, 'users');
    await page.getByRole('button', { name: 'Done' }).click();
    await page.getByLabel('Role of carla').selectOption('member');

    // Somebody at work is deactivated: their page closes.
    const { page: other, seen: otherSeen } = await open();
    await signIn(other, known.user, known.password);
    await other.getByLabel('Engine').waitFor();
    await page.getByLabel('Find a user').fill(known.user.toUpperCase());
    await page.locator('tbody tr').nth(1).waitFor({ state: 'detached' });
    const found = await page.locator('td.name').allTextContents();
    await page.getByRole('switch', { name: `Active: ${known.user}` }).click();
    await page.getByRole('button', { name: 'Deactivate', exact: true }).waitFor();
    await picture(page, 'deactivate');
    await page.getByRole('button', { name: 'Deactivate', exact: true }).click();
    const began = Date.now();
    await other.getByLabel('Username').waitFor();
    const outAfter = Date.now() - began;
    const outSaid = await other.getByRole('alert').first().textContent();
    await type(other, known.user, known.password);
    await said(other).waitFor();
    const refused = await said(other).textContent();

    await page.getByLabel('Find a user').fill('');
    await page.getByRole('button', { name: 'Delete' }).nth(2).waitFor();
    const row = page.locator('tr', { hasText: 'carla' });
    await row.getByRole('button', { name: 'Delete' }).click();
    await page.getByLabel('Their runs and functions go to').fill(known.admin);
    await picture(page, 'delete');
    await page.getByRole('button', { name: 'Delete carla' }).click();
    await page.locator('td.name', { hasText: 'carla' }).waitFor({ state: 'detached' });
    await page.getByLabel(`Role of ${known.admin}`).selectOption('guest');
    const last = await page.locator('.ask .said').textContent();
    const role = await page.getByLabel(`Role of ${known.admin}`).inputValue();

    await page.getByRole('link', { name: 'Audit log' }).click();
    await page.getByLabel('What').selectOption('user.remove');
    await page.waitForFunction(() => { const rows = [...document.querySelectorAll('tbody tr')]; return rows.length && rows.every((row) => row.textContent.includes('user.remove')); });
    const removed = await page.locator('tbody tr').allTextContents();
    await page.getByLabel('What').selectOption('');
    await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 50);
    await picture(page, 'audit');
    const rows = await page.locator('tbody tr').count();
    await page.getByRole('button', { name: 'Older entries' }).click();
    await page.waitForFunction((before) => document.querySelectorAll('tbody tr').length > before, rows);
    return { ...seen, errors: [...seen.errors, ...otherSeen.errors], taken, link, found, outAfter, outSaid, refused, last, role, removed, rows, all: await page.locator('tbody tr').count() };
  },

  async groups() {
    const { page, seen } = await open();
    await signIn(page, known.admin, known.password);
    await page.goto(`${base}/app/#/groups`);
    await page.getByLabel('Name of the group').fill('teaching');
    await page.getByRole('button', { name: 'Add group' }).click();
    await page.getByLabel('Add to teaching').fill('nobody here');
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    const unknown = await page.locator('li .said').textContent();
    await page.getByLabel('Add to teaching').fill(known.user);
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    await page.getByRole('button', { name: `Take ${known.user} out of teaching` }).waitFor();
    await page.getByLabel('Grant', { exact: true }).fill('look:session:s_1');
    await page.getByLabel('To', { exact: true }).fill('teaching');
    await page.getByRole('button', { name: 'Grant it' }).click();
    const wrong = await page.locator('#grant-said').textContent();
    await page.getByLabel('Grant', { exact: true }).fill(`use:session:${known.session}`);
    const means = await page.locator('#grant-said').textContent();
    await page.getByRole('button', { name: 'Grant it' }).click();
    await page.locator('td', { hasText: `use:session:${known.session}` }).waitFor();
    await page.getByRole('button', { name: 'How they are written' }).click();
    await picture(page, 'groups');
    // Who is in the group finds it, and may work there.
    const { page: other, seen: otherSeen } = await open();
    await signIn(other, known.user, known.password);
    await other.getByRole('link', { name: `session ${known.session}` }).click();
    await other.locator('.cm-content').waitFor();
    await picture(other, 'granted');
    const buttons = await other.getByRole('button').allTextContents();
    return { ...seen, errors: [...seen.errors, ...otherSeen.errors], unknown, wrong, means, buttons };
  },

  async share() {
    const { page, seen } = await open();
    await signIn(page, known.user, known.password);
    const links = {};
    for (const [kind, address] of [['session', `session/${known.session}`], ['run', `runs/${known.run}`]]) {
      await page.goto(`${base}/app/#/${address}`);
      await page.getByRole('button', { name: 'Share' }).click();
      await page.getByRole('button', { name: 'Make a link' }).click();
      links[kind] = await page.getByLabel('The link', { exact: true }).inputValue();
      if (kind === 'session') await picture(page, 'share');
      await page.getByRole('button', { name: 'Close' }).click();
    }
    const { page: visitor, seen: visitorSeen } = await open();
    const asked = [];
    visitor.on('request', (request) => { if (request.url().includes('/v1/')) asked.push(new URL(request.url()).pathname); });
    const views = {};
    for (const kind of ['session', 'run']) {
      await visitor.goto('about:blank');
      await visitor.goto(links[kind]);
      await visitor.locator('h1').filter({ hasText: known[kind + 'Name'] }).waitFor();
      await visitor.getByText(kind === 'session' ? 'seen by all' : known.runName).first().waitFor();
      await picture(visitor, 'shared-' + kind);
      views[kind] = { address: visitor.url(), buttons: await visitor.getByRole('button').allTextContents(), links: await visitor.locator('header nav').count(),
        editors: await visitor.locator('.cm-content').count(), alerts: await visitor.getByRole('alert').allTextContents(), text: await visitor.locator('main').textContent() };
    }
    // The link is ended in its dialog: whoever looks is out.
    await visitor.goto('about:blank');
    await visitor.goto(links.session);
    await visitor.locator('h1').filter({ hasText: known.sessionName }).waitFor();
    await page.goto(`${base}/app/#/session/${known.session}`);
    await page.getByRole('button', { name: 'Share' }).click();
    await page.getByRole('button', { name: /^End link/ }).click();
    await page.getByRole('button', { name: 'End it?' }).click();
    await visitor.getByRole('heading', { name: 'Sign in' }).waitFor();
    const over = [await visitor.getByRole('alert').first().textContent()];
    await visitor.goto('about:blank');
    await visitor.goto(links.session);
    await visitor.getByRole('heading', { name: 'Sign in' }).waitFor();
    over.push(await visitor.getByRole('alert').first().textContent());
    return { ...seen, errors: [...seen.errors, ...visitorSeen.errors], links, views, over, lists: asked.filter((path) => path === '/v1/sessions' || path === '/v1/runs') };
  },

  // Names that are markup, wherever they are shown.
  async markup() {
    const { page, seen, context } = await open();
    const dialogs = [];
    context.on('dialog', (dialog) => { dialogs.push(dialog.message()); void dialog.dismiss(); });
    await signIn(page, known.admin, known.password);
    const views = {};
    for (const view of ['users', 'groups', 'audit', 'account']) {
      await page.goto(`${base}/app/#/${view}`);
      await page.waitForFunction((markup) => document.querySelector('main').textContent.includes(markup), known.markup);
      await page.waitForTimeout(300);
      views[view] = { found: await page.locator('main img, main script, main b.x').count(), text: (await page.locator('main').textContent()).includes(known.markup) };
    }
    await page.goto(`${base}/app/#/users`);
    const { page: other, seen: otherSeen } = await open();
    await signIn(other, known.markup, known.password);
    await other.goto(`${base}/app/#/account`);
    await other.locator('main dl').waitFor();
    views.own = { found: await other.locator('main img, main script, header b.x').count(), text: (await other.locator('header').first().textContent()).includes(known.markup) };
    return { ...seen, errors: [...seen.errors, ...otherSeen.errors], dialogs, views, ran: await page.evaluate(() => window.ran === undefined) };
  },

  async desktop() {
    const { page } = await open();
    await page.goto(`${base}/desktop/`);
    await page.getByLabel('Username').waitFor();
    await type(page, known.user, known.password);
    await page.waitForURL(/desktop/);
    const greeted = await page.waitForResponse((r) => r.url() === `${base}/api/GetKernelStatus`);
    const status = greeted.status();
    const kept = await stores(page);
    return { foreign: [], errors: [], status, kept }; // what NEST Desktop itself complains of and asks for is its own
  },

  async guest() {
    const { page, seen } = await open();
    await signIn(page, known.user, known.password);
    await picture(page, 'guest');
    const start = await page.locator('main').textContent();
    await page.goto(`${base}/app/#/account`);
    await page.locator('main dl').waitFor();
    const account = await page.locator('main').textContent();
    await page.goto(`${base}/app/#/users`);
    await page.getByText('Shared with you').waitFor();
    const dialogs = [];
    page.on('dialog', (dialog) => { dialogs.push(dialog.message()); void dialog.dismiss(); });
    await page.goto(`${base}/desktop/`);
    await page.waitForURL(/\/app\//);
    await inside(page);
    return { ...seen, start, account, dialogs, nav: await page.locator('nav[aria-label=Main]').textContent() };
  },

  // For the documentation.
  async pictures() {
    const { page, seen } = await open({ viewport: { width: 1200, height: 560 } });
    await page.goto(`${base}/app/`);
    await page.getByLabel('Username').waitFor();
    await page.getByLabel('Username').fill(known.admin);
    await picture(page, 'signin', { clip: { x: 300, y: 0, width: 600, height: 470 } });
    await signIn(page, known.admin, known.password);
    await page.goto(`${base}/app/#/users`);
    await page.locator('tr', { hasText: 'dora' }).getByRole('button', { name: 'Reset link' }).click();
    await page.getByLabel('Link for dora').waitFor();
    await page.mouse.move(600, 540);
    await picture(page, 'users');
    await page.goto(`${base}/app/#/groups`);
    await page.getByLabel('Grant', { exact: true }).fill('view:run:*');
    await page.waitForTimeout(300);
    await picture(page, 'grants', { clip: { x: 0, y: 0, width: 1200, height: 400 } });
    await page.goto(`${base}/app/#/account`);
    await page.locator('main dl').waitFor();
    await page.waitForTimeout(300);
    await picture(page, 'account');
    return seen;
  },

  async phone() {
    const over = {};
    const unseen = [];
    const errors = [];
    for (const colorScheme of ['light', 'dark']) {
      const { page, seen } = await open({ viewport: { width: 390, height: 844 }, hasTouch: true, colorScheme });
      await page.goto(`${base}/app/`);
      await page.getByLabel('Username').waitFor();
      over['signin ' + colorScheme] = await overflow(page);
      await picture(page, `phone-signin-${colorScheme}`);
      await type(page, known.admin, known.password);
      await inside(page);
      for (const view of ['account', 'users', 'groups', 'audit']) {
        await page.goto(`${base}/app/#/${view}`);
        await page.locator('h1').first().waitFor();
        await page.waitForTimeout(400);
        over[`${view} ${colorScheme}`] = await overflow(page);
        await picture(page, `phone-${view}-${colorScheme}`);
        for (let i = 0; i < 30; ++i) {
          await page.keyboard.press('Tab');
          const one = await page.evaluate(() => {
            const element = document.activeElement, style = getComputedStyle(element);
            return { name: element.outerHTML.slice(0, 80), shown: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0, body: element === document.body };
          });
          if (!one.body && !one.shown) unseen.push(one.name);
        }
      }
      errors.push(...seen.errors);
    }
    const { page } = await open({ colorScheme: 'dark' });
    await signIn(page, known.admin, known.password);
    for (const view of ['account', 'users', 'groups', 'audit']) {
      await page.goto(`${base}/app/#/${view}`);
      await page.waitForTimeout(500);
      await picture(page, `dark-${view}`);
    }
    // A control without a name can't be told apart by ear.
    const nameless = [];
    for (const view of ['account', 'users', 'groups', 'audit']) {
      await page.goto(`${base}/app/#/${view}`);
      await page.waitForTimeout(300);
      nameless.push(...await page.evaluate(() => [...document.querySelectorAll('input, select, button')].filter((one) =>
        !(one.labels?.length || one.getAttribute('aria-label') || one.textContent.trim() || one.getAttribute('aria-hidden'))).map((one) => one.outerHTML.slice(0, 80))));
    }
    return { errors, foreign: [], over, unseen, nameless };
  },
};

try {
  console.log(JSON.stringify(await jobs[what]()));
} finally {
  await browser.close();
}
