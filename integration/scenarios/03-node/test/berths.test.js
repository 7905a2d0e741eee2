'use strict';

const test = require('node:test');
const assert = require('node:assert');
const { berthsFor } = require('../src/berths');

test('shallow boats may use every berth, shallowest first', () => {
  assert.deepStrictEqual(berthsFor(1).map((b) => b.name), ['old pier', 'north quay', 'basin']);
});

test('a draught that is no number is refused', () => {
  assert.throws(() => berthsFor(NaN), RangeError);
});
