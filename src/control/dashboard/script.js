'use strict';
(() => {
  const PAGE = document.querySelector('meta[name="cupbearer-page"]').content;
  const byId = (id) => document.getElementById(id);
  const make = (name, props = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(props)) {
      if (key === 'on') for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
      else if (key in node) node[key] = value;
      else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };
  const draw = (name, attributes = {}) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  // Written only where it differs: a selection and a screen reader are left alone.
  const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const show = (node, shown) => { if (node.hidden === shown) node.hidden = !shown; };

  const span = (seconds) => {
    const s = Math.max(0, Math.ceil(seconds));
    const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
    if (d) return `${d} d ${h} h`;
    if (h) return `${h} h ${m} min`;
    return `${m}:${String(s % 60).padStart(2, '0')}`;
  };
  const failureOf = (token) => token.last_error?.cause;
  const clock = (at) => new Date(at * 1000).toLocaleTimeString();

  const STATES = {
    valid: ['good', '\u2713', 'valid'],
    degraded: ['warn', '\u25b2', 'good, but not renewed'],
    pending: ['warn', '\u2026', 'on its way'],
    expired: ['bad', '\u2715', 'expired'],
    misconfigured: ['bad', '\u2715', 'misconfigured'],
    login_required: ['bad', '\u2192', 'login required'],
    logged_out: ['calm', '\u25cf', 'logged out'],
  };
  // What is so where no token can be used: the headline in place of the time that is left, and what follows from it.
  const NEWS = {
    pending: ['On its way', 'the first token was requested'],
    expired: ['Expired', 'requests get 503 until it is renewed, which is tried again by itself'],
    misconfigured: ['No token', 'requests get 503 until the configuration or the secret is changed'],
    login_required: ['Login required', 'requests get 503 until a person logs in'],
    logged_out_person: ['Logged out', 'requests get 503 until a person logs in'],
    logged_out: ['Logged out', 'requests get 503 until it is renewed'],
  };
  // The same where there was a token, and it has expired.
  const OLD_NEWS = {
    pending: ['Expired', 'requests get 503 until a new token comes, which is tried again by itself'],
    misconfigured: ['Expired', 'it cannot be renewed: requests get 503 until the configuration or the secret is changed'],
  };
  // A logout that was wanted is no failure.
  const stateOf = (token) => (token.last_error?.cause === 'logged_out' && !['valid', 'degraded'].includes(token.status) ? 'logged_out' : token.status);
  const usable = (token) => ['valid', 'degraded'].includes(token.status);

  // The same for all pages of this browser, and nothing else: a token is renewed by the browser that has the session.
  const BROWSER = (() => {
    const made = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
    try {
      const kept = localStorage.getItem('cupbearer-browser');
      if (kept) return kept;
      localStorage.setItem('cupbearer-browser', made);
    } catch { /* A browser that keeps nothing is another one each time. */ }
    return made;
  })();

  // --- What is asked of the proxy. ---------------------------------------------------------------------------------
  async function call(path, body) {
    const answer = await fetch(path, {
      method: 'POST',
      headers: { 'cupbearer-page': PAGE, 'content-type': 'application/json' },
      body: body === undefined ? '' : JSON.stringify(body),
      cache: 'no-store',
    });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw Object.assign(new Error(told.detail ?? `The response is ${answer.status}.`), { status: answer.status });
    return told;
  }
  const at = (name, what) => `/tokens/${encodeURIComponent(name).replaceAll('%20', '+')}/${what}`;

  // --- What became of a token. -------------------------------------------------------------------------------------
  const ICONS = { renewed: '\u2713', adopted: '\u2713', failed: '\u25b2', unsent: '\u25cb', logged_out: '\u25cf' };
  const WORDS = { adopted: 'taken from the store', unsent: 'no request was sent', logged_out: 'logged out' };
  const said = ({ kind, message }) => `${WORDS[kind] ?? kind}${message && kind !== 'logged_out' ? `: ${message}` : ''}`;

  // --- A token's card. ---------------------------------------------------------------------------------------------
  class Card {
    constructor(name) {
      this.name = name;
      this.title = make('h3', {}, name);
      this.grant = make('span', { className: 'grant' });
      this.badge = make('span', { className: 'badge' });
      this.count = make('span');
      this.unit = make('small');
      this.fill = make('span');
      this.bar = make('div', { className: 'bar', 'aria-hidden': 'true' }, this.fill);
      this.left = make('p', { className: 'left', role: 'timer', 'aria-live': 'off' }, this.count, ' ', this.unit);
      this.facts = make('dl');
      this.values = {};
      for (const [key, label] of [
        ['user', 'Logged in as'], ['next', 'Next renewal'], ['last', 'Last renewal'], ['login_ends', 'Login ends'], ['scope', 'Scope'],
        ['counts', 'Renewals'], ['callers', 'Callers'],
      ]) {
        const value = make('dd');
        const term = make('dt', {}, label);
        this.values[key] = { value, term };
        this.facts.append(term, value);
      }
      this.bannerText = make('p');
      this.bannerWay = make('p');
      this.banner = make('div', { className: 'banner', hidden: true }, this.bannerText, this.bannerWay);
      this.loginBox = make('div', { className: 'login', hidden: true });
      this.buttons = {
        login: this.button('Log in', 'first', () => this.logIn()),
        device: this.button('Log in on another device', '', () => this.logIn('device_code')),
        renew: this.button('Renew now', '', () => this.act('renew', 'renewed')),
        logout: this.button('Log out', '', () => this.confirm(true)),
      };
      this.sure = this.button('Log out, and give the token back', 'grave', () => this.logOut());
      this.keep = this.button('Keep it', '', () => this.confirm(false));
      show(this.sure, false);
      show(this.keep, false);
      this.acts = make('div', { className: 'acts' }, ...Object.values(this.buttons), this.sure, this.keep);
      this.complaint = make('p', { className: 'said', role: 'alert' });
      this.line = draw('svg', { class: 'line', viewBox: '0 0 300 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
      this.list = make('ol');
      this.summary = make('summary');
      this.timeline = make('details', {}, this.summary, this.list);
      this.node = make('article', { className: 'card', 'aria-label': `Token ${name}` },
        make('div', { className: 'head' }, this.title, this.grant, this.badge),
        this.left, this.bar, this.banner, this.loginBox, this.facts, this.line, this.timeline, this.acts, this.complaint);
    }

    button(label, kind, act) {
      return make('button', { type: 'button', className: kind, on: { click: act } }, label);
    }

    // Pressed twice, it acts once; the focus stays where it is.
    async busy(button, work) {
      if (button.getAttribute('aria-disabled') === 'true') return;
      button.setAttribute('aria-disabled', 'true');
      write(this.complaint, '');
      try {
        await work();
      } catch (error) {
        write(this.complaint, error.message);
      } finally {
        button.removeAttribute('aria-disabled');
      }
    }

    act(what, done) {
      return this.busy(this.buttons[what], async () => {
        await call(at(this.name, what));
        say(`${this.name}: ${done}`);
      });
    }

    confirm(asked) {
      this.asked = asked;
      this.arrange();
      (asked ? this.keep : this.buttons.logout).focus();
    }

    logOut() {
      return this.busy(this.sure, async () => {
        const out = await call(at(this.name, 'logout'));
        say(`${this.name}: logged out`);
        this.confirm(false);
        this.endSession = out.end_session_url;
        this.login();
      });
    }

    // The tab is opened within the click, or the browser would take it for an advertisement.
    logIn(flow) {
      const other = (flow ?? this.token.grant) === 'device_code';
      const tab = other ? null : window.open('about:blank', '_blank');
      return this.busy(other && flow ? this.buttons.device : this.buttons.login, async () => {
        try {
          this.endSession = undefined;
          const login = await call(at(this.name, 'login'), { browser: BROWSER, ...(flow ? { flow } : {}) });
          if (tab && login.authorization_url) {
            tab.opener = null;
            tab.location.replace(login.authorization_url);
          }
          this.token.login = login;
          this.login();
        } catch (error) {
          tab?.close();
          throw error;
        }
      });
    }

    update(token, history, now) {
      const before = this.state;
      this.token = token;
      this.state = stateOf(token);
      this.seen = now;
      const [kind, icon, word] = STATES[this.state] ?? ['warn', '?', this.state];
      write(this.grant, token.grant + (token.renew_via === 'browser' ? ', renewed in this browser' : ''));
      this.badge.className = `badge ${kind}`;
      write(this.badge, `${icon} ${word}`);
      if (before && before !== this.state) say(`${this.name}: ${word}`);
      // Who is logged in while that counts; afterwards, who was, and until when.
      write(this.values.user.term, usable(token) ? 'Logged in as' : 'Last login');
      const ended = token.expires_at === undefined ? '' : `, until ${clock(token.expires_at)}`;
      this.fact('user', token.user && (usable(token) ? token.user : `${token.user}${ended}`));
      this.fact('login_ends', token.login_expires_at === undefined || !usable(token) ? undefined : `at ${clock(token.login_expires_at)} unless renewed`);
      this.fact('scope', usable(token) ? token.scope : undefined);
      const adopted = token.adoptions ? `, ${token.adoptions} taken from the store` : '';
      this.fact('counts', `${token.renewals} done${adopted}, ${token.failures} failed since the start`);
      this.fact('callers', token.callers === undefined ? undefined : `${token.callers} held, one for each caller`);
      const failure = token.last_error;
      show(this.banner, Boolean(failure || token.help) && this.state !== 'logged_out');
      if (failure) {
        this.banner.className = `banner ${kind === 'good' ? 'warn' : kind}`;
        const often = failure.consecutive_failures > 1 ? `, ${failure.consecutive_failures} in a row` : '';
        const words = failure.server_says ? ` The server says: \u201c${failure.server_says}\u201d` : '';
        write(this.bannerText, `${failure.message} (at ${clock(failure.at)}${often})${words}`);
        write(this.bannerWay, this.wayOut(token));
        show(this.bannerWay, this.bannerWay.textContent !== '');
      } else if (token.help) {
        this.banner.className = 'banner warn';
        write(this.bannerText, token.help);
        show(this.bannerWay, false);
      }
      if (!failure && token.user) this.endSession = undefined;
      this.login();
      this.arrange();
      this.draw(history);
      this.tick(now);
    }

    wayOut(token) {
      // Another login changes nothing then.
      if (failureOf(token) === 'cookies_withheld') return '';
      if (token.help) return `The way out: ${token.help}.`;
      if (readOnly) return '';
      if (token.status === 'login_required' && token.can_log_in) return 'Log in with the button below.';
      if (token.last_error.cause === 'browser_absent') return 'This page renews it by itself now that it is open.';
      if (token.status === 'misconfigured') return 'Change the configuration or the secret; it is tried again by itself.';
      return '';
    }

    fact(key, text) {
      const { value, term } = this.values[key];
      show(value, text !== undefined);
      show(term, text !== undefined);
      if (text !== undefined) write(value, text);
    }

    arrange() {
      const { can_log_in: login, can_log_in_by_device: device, grant, user, status, generation, expires_in_seconds: left } = this.token;
      const wants = status === 'login_required';
      const b = this.buttons;
      const idle = !this.asked && !readOnly;
      show(b.login, Boolean(login) && idle);
      show(b.device, Boolean(login && device) && grant !== 'device_code' && wants && idle);
      show(b.renew, !wants && this.token.callers === undefined && idle);
      show(b.logout, (left !== undefined || user !== undefined || generation !== undefined) && !wants && idle);
      show(this.sure, Boolean(this.asked) && !readOnly);
      show(this.keep, Boolean(this.asked) && !readOnly);
      write(b.login, wants || !user ? 'Log in' : 'Log in again');
      b.login.className = wants || !user ? 'first' : '';
    }

    // What is under way, or how it ended where that is not seen from the token.
    login() {
      const { login } = this.token;
      const shown = this.endSession ? `end ${this.endSession}` : JSON.stringify({ ...login, expires_in_seconds: 0 });
      if (shown === this.shownLogin) return;
      this.shownLogin = shown;
      const box = this.loginBox;
      const cancel = () => this.button('Call it off', '', async () => { await call(at(this.name, 'login/cancel')).catch(() => {}); });
      const link = (url, text) => make('a', { href: url, target: '_blank', rel: 'noopener noreferrer' }, text ?? url);
      box.replaceChildren();
      show(box, true);
      if (this.endSession) {
        box.append(make('p', {}, 'Logged out here. The session of this browser at the authorization server may last; it may ask for a confirmation: '),
          make('p', {}, link(this.endSession, 'end that session, too')));
      } else if (login?.state === 'waiting' && login.user_code) {
        box.append(make('p', {}, 'On any device, open ', link(login.verification_uri), ' and enter the code'),
          make('span', { className: 'code' }, login.user_code));
        if (login.verification_uri_complete) box.append(make('p', {}, link(login.verification_uri_complete, 'Open it here, with the code in it')));
        box.append(cancel());
      } else if (login?.state === 'waiting' && login.redirect_uri && !login.redirect_uri.startsWith('http:')) {
        const address = make('input', { type: 'url', autocomplete: 'off', 'aria-label': 'The address that the browser ended at' });
        const send = this.button('Send it', '', () => this.busy(send, () => call(at(this.name, 'login/callback'), { url: address.value })));
        box.append(make('p', {}, 'Log in in the other tab. ', link(login.authorization_url, 'Open it here'), login.redirect_uri.startsWith('https:')
          ? ` if there is none. It ends at an address that begins with ${login.redirect_uri}: copy that whole address and paste it here.`
          : ' if there is none. Copy the whole address that it ends at, or the code that it shows, and paste it here.'),
          make('p', {}, address, ' ', send), cancel());
      } else if (login?.state === 'waiting') {
        box.append(make('p', {}, 'A login goes on in another tab. ', link(login.authorization_url, 'Open it here'), ' if there is none.'), cancel());
      } else if (login?.state === 'failed') {
        const when = login.ended_at ? `at ${clock(login.ended_at)} ` : '';
        box.append(make('p', {}, `The login ${when}${login.kept ? 'has a flaw' : 'failed'}: ${login.message}`));
      } else {
        show(box, false);
      }
    }

    tick(now) {
      const { token } = this;
      const passed = (now - this.seen) / 1000;
      const left = token.expires_in_seconds === undefined ? undefined : Math.max(0, token.expires_in_seconds - passed);
      const [news, consequence] = usable(token) ? [] : (token.expires_at === undefined ? undefined : OLD_NEWS[this.state])
        ?? NEWS[this.state === 'logged_out' && token.can_log_in ? 'logged_out_person' : this.state] ?? [];
      if (news) {
        write(this.count, news);
        write(this.unit, consequence);
      } else if (left === undefined) {
        write(this.count, token.generation ? 'no end' : 'none');
        write(this.unit, token.generation ? '' : 'held');
      } else {
        write(this.count, span(left));
        write(this.unit, 'left');
      }
      this.left.classList.toggle('news', Boolean(news));
      const whole = token.expires_at && token.last_renewal ? Math.max(1, token.expires_at - token.last_renewal) : 0;
      show(this.bar, whole > 0 && !news);
      if (whole) this.fill.style.transform = `scaleX(${Math.min(1, left / whole)})`;
      const next = token.next_attempt_in_seconds;
      this.fact('next', token.browser_wanted ? 'under way in this browser'
        : next === undefined ? undefined : next - passed > 0 ? `in ${span(next - passed)}` : 'now');
      this.fact('last', token.last_renewal === undefined ? undefined
        : `at ${clock(token.last_renewal)}, ${span(Date.now() / 1000 - token.last_renewal)} ago`);
    }

    draw(history = []) {
      const last = history.at(-1);
      const drawn = `${history.length} ${last?.at}`;
      if (drawn === this.drawn) return;
      this.drawn = drawn;
      show(this.timeline, history.length > 0);
      this.line.style.display = history.length > 1 ? '' : 'none';
      write(this.summary, history.length ? `Timeline since ${clock(history[0].at)}` : 'Timeline');
      const [from, to] = [history[0]?.at ?? 0, Math.max(last?.at ?? 1, (history[0]?.at ?? 0) + 1)];
      this.line.replaceChildren(draw('line', { x1: 0, y1: 12, x2: 300, y2: 12 }));
      for (const event of history) {
        const x = 4 + 292 * ((event.at - from) / (to - from));
        const mark = ['logged_out', 'unsent'].includes(event.kind) ? draw('circle', { class: event.kind, cx: x, cy: 12, r: 4 })
          : event.kind === 'failed' ? draw('path', { class: 'failed', d: `M${x - 4} 18 L${x} 6 L${x + 4} 18 Z` })
          : draw('rect', { class: event.kind, x: x - 2, y: 6, width: 4, height: 12 });
        mark.append(draw('title'));
        mark.firstChild.textContent = `${clock(event.at)} ${said(event)}`;
        this.line.append(mark);
      }
      this.list.replaceChildren(...history.slice().reverse().map((event) => make('li', {},
        make('time', {}, clock(event.at)), `${ICONS[event.kind] ?? ''} ${said(event)}`)));
    }
  }

  // --- Renewal in this browser. ------------------------------------------------------------------------------------
  const renewing = new Set();
  const until = (holds, limit) => new Promise((resolve) => {
    const end = performance.now() + limit;
    const timer = setInterval(() => {
      if (holds() || performance.now() > end) { clearInterval(timer); resolve(); }
    }, 100);
  });

  // The browsers that the authorization server refused, for tokens that others are still called for.
  const declined = new Set();

  function decline(name) {
    declined.add(name);
    // Whether it is needed by then is another question.
    setTimeout(() => declined.delete(name), 60000);
  }

  function told(name, outcome) {
    const card = cards.get(name);
    if (!outcome || outcome.renewed || !card) return;
    if (outcome.page_only) decline(name);
    if (outcome.page_only && outcome.message) write(card.complaint, outcome.message);
  }

  async function inFrame(name) {
    const started = await call(at(name, 'silent'), { browser: BROWSER });
    const frame = make('iframe', { title: 'renewal', hidden: true });
    let hear;
    const answered = new Promise((resolve) => {
      hear = ({ origin, source, data }) => {
        if (origin !== started.origin || source !== frame.contentWindow || data?.type !== 'authorization_response') return;
        resolve(call('/silent', data.response).catch(() => {}).then((outcome) => told(name, outcome)));
      };
    });
    if (started.response_mode === 'web_message') window.addEventListener('message', hear);
    try {
      // Back at our own address it can be read; on every other page of its way it cannot.
      frame.addEventListener('load', () => {
        try {
          if (frame.contentWindow.location.pathname === '/silent') told(name, JSON.parse(frame.contentDocument.body.textContent));
        } catch { /* Not there yet. */ }
      });
      frame.src = started.authorization_url;
      document.body.append(frame);
      // Answered as a message, or by the frame itself: either way the call for this browser ends.
      const over = until(() => !cards.get(name)?.token.browser_wanted || declined.has(name), 25000);
      await Promise.race([over, answered.then(() => over)]);
    } finally {
      window.removeEventListener('message', hear);
      frame.remove();
    }
  }

  // The policy knows the authorization servers of when the page was loaded; one that could not be asked then is missing.
  document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => {
    const last = Number(sessionStorage.getItem('loaded-anew') ?? 0);
    if (effectiveDirective !== 'frame-src' || Date.now() - last < 60000) return;
    sessionStorage.setItem('loaded-anew', Date.now());
    location.reload();
  });

  async function renewHere(name) {
    if (renewing.has(name) || declined.has(name)) return;
    renewing.add(name);
    const work = async (lock) => { if (lock !== null) await inFrame(name); };
    try {
      // One tab of all does it.
      if (navigator.locks) await navigator.locks.request(`cupbearer-silent-${name}`, { ifAvailable: true }, work);
      else await work();
    } catch (error) {
      // Another browser renews it.
      if (error.status === 409) decline(name);
      else {
        write(cards.get(name).complaint, `The renewal in this browser failed: ${error.message}`);
        await until(() => false, 5000);
      }
    } finally {
      await until(() => false, 1000);
      renewing.delete(name);
      if (cards.get(name)?.token.browser_wanted && !declined.has(name)) renewHere(name);
    }
  }

  // --- Plots. ------------------------------------------------------------------------------------------------------
  const SECONDS = 120;
  class Plot {
    constructor(title, lines, unit) {
      this.lines = lines;
      this.unit = unit;
      this.points = lines.map(() => []);
      this.paths = lines.map((_, index) => draw('path', { class: ['', 'second', 'third'][index] }));
      this.values = lines.map(() => make('b', {}, '-'));
      const picture = draw('svg', { class: 'plot', viewBox: '0 0 120 40', preserveAspectRatio: 'none', role: 'img', 'aria-label': `${title}, the last two minutes` });
      picture.append(draw('line', { x1: 0, y1: 40, x2: 120, y2: 40 }), ...this.paths);
      this.top = make('span');
      this.note = make('span');
      this.node = make('figure', {}, make('figcaption', {}, make('span', {}, title), this.top), picture,
        make('figcaption', {}, ...lines.map((line, index) => make('span', {},
          make('span', { className: `key ${['', 'second', 'third'][index]}` }), `${line} `, this.values[index]))),
        make('figcaption', {}, this.note));
    }

    push(values) {
      const shown = (value) => (value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2)).replace(/\.0+$/, '');
      values.forEach((value, index) => {
        this.points[index].push(value ?? null);
        if (this.points[index].length > SECONDS) this.points[index].shift();
        write(this.values[index], value === null || value === undefined ? '-' : `${shown(value)}${this.unit}`);
      });
      const top = Math.max(1, ...this.points.flat().filter((value) => value !== null));
      write(this.top, `up to ${shown(top)}${this.unit}`);
      this.points.forEach((points, index) => {
        let path = '';
        let pen = false;
        points.forEach((value, second) => {
          if (value === null) { pen = false; return; }
          path += `${pen ? 'L' : 'M'}${SECONDS - points.length + second} ${(39 - 37 * (value / top)).toFixed(2)}${pen ? '' : 'h.01'}`;
          pen = true;
        });
        this.paths[index].setAttribute('d', path);
      });
    }
  }

  // --- The whole page. ---------------------------------------------------------------------------------------------
  const cards = new Map();
  const plots = {
    rate: new Plot('Requests per second', ['all'], ''),
    latency: new Plot('Latency', ['p50', 'p99'], ' ms'),
    codes: new Plot('Status codes per second', ['2xx, 3xx', '4xx', '5xx'], ''),
  };
  byId('plots').append(...Object.values(plots).map((plot) => plot.node));
  const say = (text) => write(byId('said'), text);
  // Why nothing can be changed here, where it cannot.
  let readOnly;
  let uptime = { seconds: 0, seen: 0 };

  function status({ status: program, more_tokens: more, history }) {
    const now = performance.now();
    uptime = { seconds: program.uptime_seconds, seen: now };
    readOnly = program.read_only;
    show(byId('read-only'), Boolean(readOnly));
    if (readOnly) write(byId('read-only'), `This page is read-only: ${readOnly}. To change that, set listen in [control] to a Unix socket (unix:...) and use the command line.`);
    const faults = program.store_degraded ?? [];
    show(byId('store-degraded'), faults.length > 0);
    write(byId('store-degraded'), faults.map(({ token, message, since, logged_out: out }) => `${token}: the token store has failed since ${clock(since)}: ${message}. ${out ? 'This token was logged out and is not deleted: a restart brings it back.' : 'What is held of this token is in memory alone, and a restart may lose it.'}`).join(' '));
    const names = program.tokens.map((token) => token.name);
    for (const [name, card] of cards) {
      if (!names.includes(name)) { card.node.remove(); cards.delete(name); }
    }
    program.tokens.forEach((token, index) => {
      if (!cards.has(token.name)) {
        const card = new Card(token.name);
        cards.set(token.name, card);
        byId('cards').append(card.node);
      }
      cards.get(token.name).update(token, history[index], now);
      // The next call is another one.
      if (!token.browser_wanted) declined.delete(token.name);
      else if (!readOnly) renewHere(token.name);
    });
    show(byId('filter-box'), names.length > 10);
    show(byId('more'), more > 0 || names.length === 0);
    write(byId('more'), names.length === 0 ? 'No token is configured.' : `And ${more} more, which are not shown.`);
    filter();
    write(byId('version'), program.version);
    facts(program);
    tries(program);
  }

  function facts(program) {
    const rows = [['Configuration', program.config_file ?? 'flags alone'], ['Tokens are kept in', program.store],
      ...program.listeners.map(({ name, address }) => [`${name} listens on`, address])];
    const text = JSON.stringify(rows);
    if (facts.told === text) return;
    facts.told = text;
    facts.uptime ??= make('dd');
    byId('facts').replaceChildren(make('dt', {}, 'Up for'), facts.uptime,
      ...rows.flatMap(([term, value]) => [make('dt', {}, term), make('dd', {}, value)]));
  }

  function tries(program) {
    const listener = program.listeners.find(({ name, address }) => name === 'proxy' && !address.startsWith('unix:'));
    const lines = program.routes.map((route) => {
      const method = route.methods?.length && !route.methods.includes('GET') ? ` --request ${route.methods[0]}` : '';
      const host = route.host ? ` --header 'Host: ${route.host}'` : '';
      const where = listener ? `http://${listener.address.replace(/^0\.0\.0\.0|^\[::\]/, '127.0.0.1')}${route.path}` : '';
      const socket = listener ? '' : (program.listeners.find(({ name }) => name === 'proxy')?.address ?? '').replace('unix:', '');
      const line = listener ? `curl -i${method}${host} ${where}` : `curl -i${method}${host} --unix-socket ${socket} http://localhost${route.path}`;
      const token = program.tokens.find(({ name }) => name === route.token);
      const refused = token && token.callers === undefined && !usable(token);
      const state = refused ? (STATES[stateOf(token)] ?? ['', '', token.status])[2] : '';
      return [line, route.token ? `with the token ${route.token}, to ${route.upstream}` : `without a token, to ${route.upstream}`,
        refused ? `gets 503 now (${route.token}: ${state})` : ''];
    });
    const text = JSON.stringify(lines);
    if (tries.told === text) return;
    tries.told = text;
    byId('try').replaceChildren(...lines.map(([line, what, refused]) => {
      const copy = make('button', { type: 'button', 'aria-label': `Copy: ${line}`, on: { click: async () => {
        try {
          await navigator.clipboard.writeText(line);
          write(copy, 'Copied');
          say('copied');
        } catch {
          getSelection().selectAllChildren(code.firstChild);
          write(copy, 'Marked');
        }
        setTimeout(() => write(copy, 'Copy'), 2000);
      } } }, 'Copy');
      const code = make('code', {}, make('span', {}, line), make('small', {}, what), ...(refused ? [make('small', { className: 'refused' }, refused)] : []));
      return make('div', { className: 'curl' }, code, copy);
    }));
  }

  function filter() {
    const wanted = byId('filter').value.trim().toLowerCase();
    for (const [name, card] of cards) show(card.node, name.toLowerCase().includes(wanted));
  }
  byId('filter').addEventListener('input', filter);

  function live(yes) {
    const was = byId('live').dataset.live;
    byId('live').dataset.live = yes ? 'yes' : 'no';
    write(byId('live'), yes ? 'live' : 'not connected');
    show(byId('lost'), !yes);
    if (was === 'no' && yes && live.once) {
      // The program was started anew, perhaps: then this page's word counts no more.
      fetch('/', { cache: 'no-store' }).then((answer) => answer.text()).then((text) => {
        if (!text.includes(PAGE)) location.reload();
      }).catch(() => {});
    }
    live.once ||= yes;
  }

  const feed = new EventSource(`/events?browser=${BROWSER}`);
  let lost;
  feed.addEventListener('status', ({ data }) => { clearTimeout(lost); lost = undefined; live(true); status(JSON.parse(data)); });
  feed.addEventListener('traffic', ({ data }) => {
    const traffic = JSON.parse(data);
    const rate = (...classes) => classes.reduce((sum, name) => sum + (traffic.by_class[name] ?? 0), 0);
    plots.rate.push([traffic.requests_per_second]);
    plots.latency.push([traffic.p50_ms, traffic.p99_ms]);
    // As a text: beside the API's time the line would lie on the axis.
    const own = (value) => `${value < 0.1 ? value.toFixed(3) : value.toFixed(2)} ms`;
    if (typeof traffic.own_p50_ms === 'number') write(plots.latency.note, `of that the proxy's own share: p50 ${own(traffic.own_p50_ms)}, p99 ${own(traffic.own_p99_ms)}`);
    plots.codes.push([rate('1xx', '2xx', '3xx'), rate('4xx'), rate('5xx')]);
  });
  // A connection has a longest life: a new one follows within seconds, so this is not reported.
  feed.addEventListener('error', () => {
    lost ??= setTimeout(() => live(false), 4000);
    if (feed.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  });
  setInterval(() => {
    const now = performance.now();
    for (const card of cards.values()) card.tick(now);
    if (facts.uptime) write(facts.uptime, span(uptime.seconds + (now - uptime.seen) / 1000));
  }, 250);
})();
