'use strict';

const express = require('express');
const { berthsFor } = require('./berths');
const built = require('./built.json');

const app = express();

app.get('/', (_, res) => res.json({ name: built.name, version: built.version }));
app.get('/berths/:draught', (req, res) => {
  try {
    res.json(berthsFor(Number(req.params.draught)).map((b) => b.name));
  } catch (e) {
    res.status(400).json({ error: e.message });
  }
});

const port = Number(process.env.PORT || 8080);
const server = app.listen(port, '127.0.0.1', () => console.log(`berths listens on ${port}`));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => server.close());
