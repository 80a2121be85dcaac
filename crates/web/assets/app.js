// What pages do besides being pages. They work without it, except for what is live.
//
//   body[data-events]       a stream of `change`, `beat` and `over`: parts with data-live are fetched anew and morphed
//   body[data-refresh]      what is fetched instead, for a page that is costly to make
//   [data-rows]             a table whose tr[data-row] are walked with j, k, opened with Enter, selected with x
//   [data-all] [data-actions] [data-count]   selecting rows shows the actions and how many there are
//   [data-sure]             a button that asks first
//   [data-fill] [data-select]   a menu that is fetched when it is opened
//   [data-reads][data-then] a file whose text goes into a field, and the button that is pressed then
//   details.dots            the menu of a row, by its ⋮ or the right button; [data-picked] means all selected rows when it is one of them
//   [data-copy] [data-help] [data-search] [data-key] [data-shows] [data-shown-by] [data-fragment]
//   ol[data-log]            lines that go on; [data-wrap]
'use strict';

const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// --- what a person changed in a part outlives its refresh
htmx.registerExtension('keep', {
  htmx_before_morph_attr: (element, { attrName }) =>
    !(attrName === 'open' || element.matches('details.dots[open] a') || attrName === 'data-here' || (attrName === 'hidden' && element.matches('[data-actions]'))),
});

// --- live
const live = one('#live');
let lastWord = 0, source = null, waiting = null, refreshing = false, again = false;

function say(state, words) {
  if (!live || (live.dataset.state === state && one('span', live).textContent === words)) return;
  live.dataset.state = state;
  one('i', live).textContent = { live: '●', stale: '▲', connecting: '◌' }[state];
  one('span', live).textContent = words;
}

async function refresh() {
  if (refreshing) { again = true; return; }
  refreshing = true;
  try {
    const answer = await fetch(document.body.dataset.refresh ?? location.href, { headers: { 'stead-refresh': '1' }, cache: 'no-store' });
    // Signed out, refused, gone: the page itself says which.
    if (!answer.ok || answer.redirected) { location.reload(); return; }
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if (page.body.dataset.shown !== document.body.dataset.shown) { location.reload(); return; }
    for (const part of all('[data-live]')) {
      const now = page.getElementById(part.id);
      if (now && !now.isEqualNode(part)) {
        await htmx.swap({ text: now.outerHTML, target: part, sourceElement: part, swap: 'outerMorph', transition: false });
      }
    }
    selected();
  } catch { /* The stream says that nobody answers. */ } finally {
    refreshing = false;
    if (again) { again = false; soon(); }
  }
}

function soon() {
  waiting ??= setTimeout(() => { waiting = null; refresh(); }, 700);
}

function listen() {
  const url = document.body.dataset.events;
  if (!url || source) return;
  // The page is older than the stream: what happened in between is in neither.
  let missed = true;
  source = new EventSource(url);
  source.onopen = () => {
    lastWord = Date.now();
    say('live', 'live');
    if (missed) { missed = false; soon(); }
  };
  source.addEventListener('beat', () => { lastWord = Date.now(); say('live', 'live'); });
  source.addEventListener('change', () => {
    lastWord = Date.now();
    say('live', 'live, changed ' + new Date().toLocaleTimeString());
    soon();
  });
  source.addEventListener('over', () => { source.close(); location.reload(); });
  source.onerror = () => {
    missed = true;
    say('stale', 'not live: reconnecting');
    // The browser tries again by itself, but not after an answer that is no stream.
    if (source.readyState === EventSource.CLOSED) { source = null; setTimeout(listen, 2000); }
  };
}

function hush() {
  if (source) { source.close(); source = null; }
}

// A page that nobody looks at holds no connection: browsers have six for a host.
document.addEventListener('visibilitychange', () => (document.hidden ? hush() : listen()));
addEventListener('pagehide', hush);
addEventListener('pageshow', (event) => { if (event.persisted) { listen(); soon(); } });
if (document.body.dataset.events) {
  listen();
  setInterval(() => {
    if (source && lastWord && Date.now() - lastWord > 15000) say('stale', 'not live: nothing heard since ' + new Date(lastWord).toLocaleTimeString());
  }, 3000);
}

// --- times
function words(seconds) {
  const s = Math.abs(seconds), d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  const span = d >= 10 ? d + ' d' : d ? d + ' d ' + h + ' h' : h ? h + ' h ' + m + ' min' : m >= 10 ? m + ' min' : m ? m + ' min ' + (s % 60) + ' s' : s + ' s';
  return seconds < 0 ? 'in ' + span : span + ' ago';
}
function times() {
  for (const time of all('time[datetime]')) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    if (time.hasAttribute('data-clock')) {
      const today = at.toDateString() === new Date().toDateString();
      time.textContent = today ? at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }) : at.toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
    } else {
      time.textContent = words(Math.round((Date.now() - at) / 1000));
    }
  }
}
times();
setInterval(times, 10000);

// --- selecting
function selected() {
  for (const table of all('[data-rows]')) {
    const form = table.closest('form');
    const bar = form && one('[data-actions]', form);
    if (!bar) continue;
    const boxes = all('tbody .pick input', table), ticked = boxes.filter((box) => box.checked);
    bar.hidden = ticked.length === 0;
    one('[data-count]', bar).textContent = ticked.length + ' selected';
    const every = one('[data-all]', table);
    if (every) {
      every.checked = ticked.length > 0 && ticked.length === boxes.length;
      every.indeterminate = ticked.length > 0 && ticked.length < boxes.length;
    }
  }
}
document.addEventListener('change', (event) => {
  const target = event.target;
  if (target.matches('[data-all]')) {
    for (const box of all('tbody .pick input', target.closest('table'))) box.checked = target.checked;
  }
  if (target.matches('.pick input')) selected();
  if (target.matches('[data-shows]')) shown();
  if (target.matches('[data-reads]')) read(target);
});
selected();

// A button that asks first does so before htmx or the browser sends anything.
document.addEventListener('click', (event) => {
  const button = event.target.closest('[data-sure]');
  if (button && !confirm(button.dataset.sure)) { event.preventDefault(); event.stopImmediatePropagation(); }
}, true);

// What was done is seen at once, live or not.
document.addEventListener('htmx:after:swap', (event) => {
  if (event.detail?.ctx?.target?.id === 'said') { for (const box of all('.pick input')) box.checked = false; selected(); soon(); }
  times();
});

// --- forms
function shown() {
  for (const radio of all('[data-shows]')) {
    const part = document.getElementById(radio.dataset.shows);
    if (part) part.hidden = !radio.checked;
  }
}
shown();
async function read(input) {
  const into = one(input.dataset.reads), file = input.files[0];
  if (!into || !file) return;
  if (file.size > 4 << 20) { alert('A template of more than 4 MiB is not read here.'); return; }
  into.value = await file.text();
  if (input.dataset.then) one(input.dataset.then).click();
}
for (const form of all('form[data-fragment]')) {
  // The code leaves the address before anything else can see it there.
  form.elements[form.dataset.fragment].value = location.hash.slice(1);
  history.replaceState(null, '', location.pathname);
}

// --- the chip
for (const menu of all('[data-fill]')) {
  menu.closest('details').addEventListener('toggle', async (event) => {
    if (!event.target.open) return;
    const answer = await fetch(menu.dataset.fill + '?next=' + encodeURIComponent(location.pathname + location.search));
    const part = new DOMParser().parseFromString(await answer.text(), 'text/html').querySelector(menu.dataset.select);
    if (part) { part.removeAttribute('id'); menu.replaceChildren(part); times(); one('button:not(:disabled), a', menu)?.focus(); }
  });
}
document.addEventListener('contextmenu', (event) => {
  const row = event.target.closest('tr[data-row]'), dots = row && one('details.dots', row);
  // With Shift the browser's own menu comes.
  if (!dots || event.shiftKey || event.target.closest('.menu')) return;
  event.preventDefault();
  for (const open of all('details.dots[open]')) open.open = false;
  dots.open = true;
  one('a', dots).focus();
});
document.addEventListener('toggle', (event) => {
  const dots = event.target;
  if (!dots.matches('details.dots[open]')) return;
  const row = dots.closest('tr'), own = one('.pick input', row), link = one('[data-picked]', dots);
  const picked = own.checked ? all('tbody .pick input:checked', row.closest('table')) : [own];
  link.href = link.dataset.picked + '?' + picked.map((box) => box.name + '=' + encodeURIComponent(box.value)).join('&');
  if (picked.length > 1) link.dataset.many = picked.length; else delete link.dataset.many;
}, true);
document.addEventListener('click', (event) => {
  for (const open of all('details.chip[open], details.dots[open]')) if (!open.contains(event.target)) open.open = false;
  const copy = event.target.closest('[data-copy]');
  if (copy) {
    navigator.clipboard?.writeText(one(copy.dataset.copy).textContent).then(() => {
      copy.textContent = 'copied';
      setTimeout(() => { copy.textContent = 'copy'; }, 1500);
    });
  }
  if (event.target.closest('[data-help]')) one('#help').showModal();
});

// --- keys
let before = '';
function walk(step) {
  const rows = all('tr[data-row]');
  if (rows.length === 0) return;
  const at = rows.findIndex((row) => row.hasAttribute('data-here'));
  const next = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step))];
  rows.forEach((row) => row.removeAttribute('data-here'));
  next.setAttribute('data-here', '');
  next.scrollIntoView({ block: 'nearest' });
  one('a, input', next)?.focus({ preventScroll: true });
}
const here = () => one('tr[data-here]');
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest?.('input:not([type=checkbox]):not([type=radio]), textarea, select');
  if (event.key === 'Escape') {
    for (const open of all('details.chip[open], details.dots[open]')) { open.open = false; one('summary', open).focus(); }
    if (field) field.blur();
    before = '';
    return;
  }
  if (field || one('dialog[open]')) return;
  const keys = before + event.key;
  before = '';
  const link = all('[data-key]').find((element) => element.dataset.key.replace(' ', '') === keys);
  if (link) { event.preventDefault(); link.click(); return; }
  switch (event.key) {
    case 'g': before = 'g'; return;
    case 'j': walk(1); break;
    case 'k': walk(-1); break;
    case 'x': { const box = here() && one('.pick input', here()); if (box) { box.checked = !box.checked; selected(); } break; }
    case 'Enter': { const open = here() && !event.target.closest('a, button, summary') && one('.name a', here()); if (open) { open.click(); break; } return; }
    case '/': { const search = one('[data-search]'); if (!search) return; search.focus(); search.select(); break; }
    case 'm': { const dots = here() && one('details.dots', here()); if (!dots) return; dots.open = true; one('a', dots).focus(); break; }
    case 'u': { const chip = one('details.chip'); if (chip) { chip.open = !chip.open; one('summary', chip).focus(); } break; }
    case '?': one('#help').showModal(); break;
    default: return;
  }
  event.preventDefault();
});

// --- a log that goes on
const log = one('ol.log');
const LINES_MAX = 5000;
if (log) {
  one('[data-wrap]')?.addEventListener('click', (event) => {
    event.currentTarget.setAttribute('aria-pressed', String(!log.classList.toggle('nowrap')));
  });
  const isAtEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const wanted = one('li.wanted', log);
  wanted?.scrollIntoView({ block: 'center' });
  if (log.dataset.log) {
    if (!wanted) log.scrollTop = log.scrollHeight;
    const state = one('#log-state');
    let stream = null;
    const follow = () => {
      if (stream) return;
      // After a break the browser names the last event it had, and the lines go on from there.
      stream = new EventSource(log.dataset.log);
      stream.addEventListener('lines', (event) => {
        const stick = isAtEnd();
        const part = new DOMParser().parseFromString('<ol>' + JSON.parse(event.data).html + '</ol>', 'text/html');
        for (const line of all('li', part)) {
          // The line that was not complete yet comes again.
          document.getElementById(line.id)?.remove();
          log.append(line);
        }
        while (log.children.length > LINES_MAX) log.firstElementChild.remove();
        state.textContent = 'Following.';
        const [at, number] = event.lastEventId.split('.');
        log.dataset.log = log.dataset.log.replace(/offset=\d+/, 'offset=' + at).replace(/line=\d+/, 'line=' + number);
        if (stick) log.scrollTop = log.scrollHeight;
      });
      stream.addEventListener('end', () => { stream.close(); state.textContent = 'The end.'; });
      stream.addEventListener('over', () => { stream.close(); location.reload(); });
      stream.onerror = () => {
        state.textContent = 'Broken off: reconnecting.';
        if (stream.readyState === EventSource.CLOSED) { stream = null; setTimeout(follow, 2000); }
      };
    };
    follow();
    addEventListener('pagehide', () => stream?.close());
  }
}
