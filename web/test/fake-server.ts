// A server as spec/native-api.md says it, small and without engines: for the tests of the page's client and stream only. Its session
// "s_1" has one stream; `push` sends an event to whoever follows, `drop` cuts all connections.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { WebSocketServer, type WebSocket } from 'ws';
import type { StreamEvent } from '../src/stream/events';

type Handler = (request: IncomingMessage, body: string, response: ServerResponse) => void;

export class FakeServer {
  readonly routes = new Map<string, Handler>();
  readonly seen: { method: string; path: string; headers: IncomingMessage['headers']; body: string }[] = [];
  readonly followed: { url: string; protocols: string }[] = [];
  streams = true; // false: the stream's route is not there
  private readonly kept: StreamEvent[] = [];
  private readonly sockets = new Set<WebSocket>();
  private readonly connections = new Set<Socket>();
  private seq = 0;
  private readonly wss = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has('myelin') ? 'myelin' : false) });
  private readonly server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      const path = (request.url ?? '').split('?')[0] ?? '';
      this.seen.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers, body });
      const handler = this.routes.get(`${request.method} ${path}`);
      if (handler) handler(request, body, response);
      else problem(response, 404, 'not_found', `no such route: ${request.method} ${path}`);
    });
  });
  base = '';

  async start(): Promise<void> {
    this.server.on('connection', (socket) => { this.connections.add(socket); socket.on('close', () => this.connections.delete(socket)); });
    this.server.on('upgrade', (request, socket, head) => {
      if (!this.streams) { socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'); return; }
      this.wss.handleUpgrade(request, socket, head, (ws) => {
        this.followed.push({ url: request.url ?? '', protocols: String(request.headers['sec-websocket-protocol']) });
        this.sockets.add(ws);
        ws.on('close', () => this.sockets.delete(ws));
        const after = Number(new URL(request.url ?? '', 'http://x').searchParams.get('after') ?? 0);
        ws.send(JSON.stringify({ seq: this.seq, topic: 'state', state: 'idle', ok: true })); // the present state comes first
        for (const event of this.kept) if (event.seq > after) ws.send(JSON.stringify(event));
      });
    });
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.base = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  push(event: Record<string, unknown>): number {
    const whole = { seq: ++this.seq, ...event } as StreamEvent;
    this.seq = whole.seq;
    this.kept.push(whole);
    for (const socket of this.sockets) socket.send(JSON.stringify(whole));
    return whole.seq;
  }
  renumber(): void { this.kept.length = 0; this.seq = 0; for (const socket of this.sockets) socket.terminate(); }
  drop(): void { for (const socket of this.sockets) socket.terminate(); }

  async stop(): Promise<void> {
    this.drop();
    this.wss.close();
    for (const connection of this.connections) connection.destroy();
    await new Promise<void>((resolve) => { this.server.close(() => resolve()); });
  }
}

export function json(response: ServerResponse, status: number, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
}
export function problem(response: ServerResponse, status: number, code: string, detail: string, more: object = {}): void {
  response.writeHead(status, { 'Content-Type': 'application/problem+json' });
  response.end(JSON.stringify({ type: 'about:blank', title: code, status, code, detail, ...more }));
}
