'use strict';
// Every link of the built site leads to a page of the built site.

const fs = require('fs');
let links = 0;
for (const page of fs.readdirSync('/site')) {
  for (const [, target] of fs.readFileSync(`/site/${page}`, 'utf8').matchAll(/href="([^"]+)"/g)) {
    links += 1;
    if (!fs.existsSync(`/site/${target}`)) throw new Error(`${page}: link to missing ${target}`);
  }
}
console.log(`CHECK static ${links} links`);
