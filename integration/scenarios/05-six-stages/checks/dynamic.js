'use strict';
// Serves the built site within the step and reads it back.

const fs = require('fs');
const http = require('http');

const server = http.createServer((req, res) => res.end(fs.readFileSync('/site' + req.url)));
server.listen(0, '127.0.0.1', () => {
  http.get({ host: '127.0.0.1', port: server.address().port, path: '/index.html' }, (res) => {
    let text = '';
    res.on('data', (d) => { text += d; });
    res.on('end', () => {
      server.close();
      if (!text.includes('<h1>Tide tables</h1>')) throw new Error('the first page is not what was built');
      console.log(`CHECK dynamic ${res.statusCode}`);
    });
  });
});
