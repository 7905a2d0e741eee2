'use strict';

const fs = require('fs');
const path = require('path');
const { render } = require('./render');

const out = process.argv[2];
fs.mkdirSync(out, { recursive: true });
for (const page of fs.readdirSync('pages')) {
  const target = path.join(out, page.replace(/\.md$/, '.html'));
  fs.writeFileSync(target, render(fs.readFileSync(path.join('pages', page), 'utf8')));
  console.log(`wrote ${target}`);
}
