'use strict';
// Copies the sources to dist/ and records what was built. The version must be one that semver knows.

const fs = require('fs');
const path = require('path');
const semver = require('semver');
const { name, version } = require('./package.json');

if (!semver.valid(version)) throw new Error(`package.json: not a version: ${version}`);
fs.rmSync('dist', { recursive: true, force: true });
fs.mkdirSync('dist');
for (const file of fs.readdirSync('src')) {
  fs.copyFileSync(path.join('src', file), path.join('dist', file));
}
fs.writeFileSync('dist/built.json', JSON.stringify({ name, version }));
console.log(`built ${name} ${version}`);
