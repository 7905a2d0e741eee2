'use strict';

const assert = require('assert');
const { render } = require('../lib/render');

assert.match(render('# A & B\n\ntext'), /<h1>A &amp; B<\/h1>/);
assert.match(render('# t\n\n[x](y.html)'), /<a href="y.html">x<\/a>/);
console.log('CHECK test 2 passed');
