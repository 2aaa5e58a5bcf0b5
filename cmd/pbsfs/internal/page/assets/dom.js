// Elements. All text becomes text nodes: nothing here parses HTML.

// byId returns an element of index.html.
export function byId(id) {
  return document.getElementById(id);
}

// make makes an element. Attributes that are false, null or undefined are left out;
// "text" is its text, "click" what a click does.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === 'text') element.textContent = value;
    else if (name === 'click') element.addEventListener('click', value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// setText changes the text of an element only if it differs: a live region that is given
// the same text again would be read out again.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// icon shows one of the symbols of index.html, and says what it means.
export function icon(kind) {
  const element = byId('icon').content.firstElementChild.cloneNode(true);
  element.classList.add(kind);
  element.setAttribute('aria-label', kind);
  element.firstElementChild.setAttribute('href', `#kind-${kind}`);
  return element;
}

// maxRows is how many rows a table shows. Who has more open than that is told how many.
const maxRows = 200;

// table makes a table with a caption. On a narrow screen its rows become blocks, by which
// some browsers forget that it is a table; so the roles are written down. update(rows)
// gives it other rows, each a list of texts and elements.
export function table(caption, columns) {
  const header = make('tr', { role: 'row' }, ...columns.map((c) =>
    make('th', { scope: 'col', role: 'columnheader', class: c.number && 'number', text: c.label })));
  const body = make('tbody', { role: 'rowgroup' });
  const root = make('table', { role: 'table' },
    make('caption', { text: caption }),
    make('thead', { role: 'rowgroup' }, header),
    body);
  return {
    root,
    update(rows) {
      body.replaceChildren(...rows.slice(0, maxRows).map((row) => tableRow(columns, row)));
      if (rows.length > maxRows) {
        const more = `and ${(rows.length - maxRows).toLocaleString('en')} more`;
        body.append(make('tr', { role: 'row' }, make('td', { role: 'cell', colspan: columns.length, text: more })));
      }
    },
  };
}

function tableRow(columns, values) {
  return make('tr', { role: 'row' }, ...values.map((value, i) => {
    const attributes = { class: [columns[i].number && 'number', columns[i].name && 'name'].filter(Boolean).join(' ') || null,
      'data-label': columns[i].label };
    return i === 0
      ? make('th', { ...attributes, scope: 'row', role: 'rowheader' }, value)
      : make('td', { ...attributes, role: 'cell' }, value);
  }));
}

// announce lets a screen reader say something that others see happen.
export function announce(text) {
  const line = make('p', { text });
  byId('announcements').append(line);
  setTimeout(() => line.remove(), 5000);
}
