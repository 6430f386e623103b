// The tus server in JavaScript as its documentation shows it: server.mjs PORT FOLDER. A peer of the benchmark.
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";

const [port, directory] = process.argv.slice(2);
const server = new Server({ path: "/tus", relativeLocation: true, datastore: new FileStore({ directory }) });
server.listen({ host: "127.0.0.1", port: Number(port) });
