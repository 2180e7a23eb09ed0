'use strict';
const http = require('http');
const shout = require('shout');

const port = Number(process.env.PORT || 3000);
const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'text/plain');
  response.end(`${shout('tick')} uid ${process.getuid()} secret ${process.env.API_KEY || 'none'}\n`);
});
server.listen(port, '127.0.0.1', () => console.log(`ticker on port ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
