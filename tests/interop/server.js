// A server made with `ws`. It prints its port; what it does depends on the path.
const { WebSocketServer } = require("ws");

const deflate = { threshold: 0 };
const servers = {
  off: new WebSocketServer({ noServer: true, perMessageDeflate: false, handleProtocols: choose }),
  on: new WebSocketServer({ noServer: true, perMessageDeflate: deflate, handleProtocols: choose }),
};
let last = null;

function choose(offered) {
  return offered.has("chat.v2") ? "chat.v2" : false;
}

function talk(ws, path) {
  ws.on("close", (code, reason) => {
    if (path !== "/told") last = [code, reason.toString()];
  });
  if (path === "/fragments") {
    ws.send("frag", { fin: false });
    ws.ping("between");
    ws.send("ments", { fin: true });
  } else if (path === "/pings") {
    ws.on("pong", (data) => ws.send(`pong ${data}`));
    ws.ping("are you there?");
  } else if (path === "/closes") {
    ws.close(4321, "au revoir, ça suffit");
  } else if (path === "/told") {
    ws.send(JSON.stringify(last));
  } else {
    ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }));
  }
}

const http = require("http").createServer();
http.on("upgrade", (request, socket, head) => {
  const [, compression, path] = request.url.split("/");
  const server = servers[compression];
  server.handleUpgrade(request, socket, head, (ws) => talk(ws, `/${path}`));
});
http.listen(0, "127.0.0.1", () => console.log(http.address().port));
// It ends with whoever started it.
process.stdin.resume().on("end", () => process.exit());
