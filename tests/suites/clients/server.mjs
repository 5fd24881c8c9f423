// The server as a process that can be killed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { check, KILLED_AFTER, PATIENCE_MS, Place, within } from "./polecat.mjs";

/** A server on one database, and on one port from its first start on. */
export class Server extends Place {
  constructor(binary, ...flags) {
    super(0);
    Object.assign(this, { binary, flags, folder: mkdtempSync(join(tmpdir(), "polecat-")) });
  }

  async start() {
    // A client that looks for the server may hold the port for a moment.
    for (const deadline = Date.now() + PATIENCE_MS; !(await this.listens()); ) {
      check(Date.now() < deadline, "the server does not start");
    }
    return this;
  }

  async listens() {
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("POLECAT_")));
    const flags = ["--listen", `127.0.0.1:${this.port}`, "--log-level", "off", "--db", join(this.folder, "polecat.db")];
    this.process = spawn(this.binary, ["serve", ...flags, ...this.flags], { env, stdio: ["ignore", "ignore", "pipe"] });
    this.ended = once(this.process, "exit");
    const [line] = await within(once(createInterface(this.process.stderr), "line"), "a line of the server");
    const place = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(line);
    check(place || /address|port/i.test(line), `the server does not start: ${line}`);
    if (!place) return void (await this.ended);
    this.port = Number(place[1]);
    return true;
  }

  async kill() {
    this.process.kill("SIGKILL");
    await within(this.ended, "the end of the server");
  }

  askToStop() {
    this.process.kill("SIGTERM");
  }

  async remove() {
    await this.kill();
    rmSync(this.folder, { recursive: true });
  }
}

export async function killNowAndThen(server, acknowledged) {
  for (const most of KILLED_AFTER) {
    await acknowledged.reaches(most);
    await server.kill();
    await server.start();
  }
}

/** Runs each part on one server, which is gone in the end. */
export async function run(binary, flags, parts) {
  const server = await new Server(binary, ...flags).start();
  try {
    for (const part of parts) {
      await part(server);
      console.log("ok", part.name);
    }
  } finally {
    await server.remove();
  }
}
