'use strict';
// No tabs, no trailing blanks, no line over 120 characters.

const fs = require('fs');
let bad = 0;
for (const dir of ['lib', 'pages', 'checks']) {
  for (const file of fs.readdirSync(dir)) {
    fs.readFileSync(`${dir}/${file}`, 'utf8').split('\n').forEach((line, i) => {
      if (/\t|\s$/.test(line) || line.length > 120) {
        console.error(`${dir}/${file}:${i + 1}: blanks or length`);
        bad += 1;
      }
    });
  }
}
console.log(`CHECK lint ${bad} findings`);
process.exit(bad ? 1 : 0);
