// A client made with `ws` that does what it is told, a JSON object a line, and answers each with one.
const WebSocket = require("ws");
const readline = require("readline");

const PATIENCE = 20000; // milliseconds
let ws = null;
let closed = null;
const messages = [];
let wake = () => {};

function answer(thing) {
  process.stdout.write(JSON.stringify(thing) + "\n");
}

function until(condition) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("nothing came in time")), PATIENCE);
    wake = () => {
      const found = condition();
      if (found === undefined) return;
      clearTimeout(timer);
      wake = () => {};
      resolve(found);
    };
    wake();
  });
}

const verbs = {
  async connect({ url, compressed, subprotocols }) {
    ws = new WebSocket(url, subprotocols, {
      perMessageDeflate: compressed ? { threshold: 0 } : false,
      maxPayload: 0,
    });
    ws.on("message", (data, isBinary) => {
      messages.push(isBinary ? { binary: data.toString("base64") } : { text: data.toString() });
      wake();
    });
    ws.on("close", (code, reason) => {
      closed = { code, reason: reason.toString() };
      wake();
    });
    await new Promise((resolve, reject) => {
      ws.on("open", resolve);
      ws.on("error", reject);
    });
    return { subprotocol: ws.protocol, extensions: ws.extensions };
  },
  async send({ text, binary }) {
    ws.send(text !== undefined ? text : Buffer.from(binary, "base64"));
    return {};
  },
  async fragments({ texts }) {
    texts.forEach((text, i) => ws.send(text, { fin: i === texts.length - 1 }));
    return {};
  },
  async receive() {
    return until(() => messages.shift());
  },
  async ended() {
    return until(() => (closed === null ? undefined : closed));
  },
  async ping({ data }) {
    const pong = new Promise((resolve) => ws.once("pong", resolve));
    ws.ping(data);
    return { pong: (await pong).toString("base64") };
  },
  async close({ code, reason }) {
    ws.close(code, reason);
    return until(() => (closed === null ? undefined : closed));
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { verb, ...given } = JSON.parse(line);
    try {
      answer(await verbs[verb](given));
    } catch (error) {
      answer({ error: String(error) });
    }
  }
})();
