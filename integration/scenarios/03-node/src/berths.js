'use strict';

const BERTHS = [
  { name: 'north quay', depth: 4 },
  { name: 'old pier', depth: 2 },
  { name: 'basin', depth: 7 },
];

/** The berths that are deep enough for a boat of the given draught, shallowest first. */
function berthsFor(draught) {
  if (!(draught >= 0)) throw new RangeError(`not a draught: ${draught}`);
  return BERTHS.filter((b) => b.depth > draught).sort((a, b) => a.depth - b.depth);
}

module.exports = { berthsFor };
