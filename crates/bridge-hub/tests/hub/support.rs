//! A hub with a token for programs, a bridge that does what the test says, and a bare HTTP client.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    ops::Deref,
};

use bridge_hub::{HubConfig, TaskStatus};
use bridge_proto::{Secret, TaskId};
use bridge_transport::{TextFrame, carrier::deflate};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Error, Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

use crate::paired::{Paired, started};
pub(crate) use crate::paired::{Run, soon, texts};

/// A hub, one paired machine, and a token for programs.
pub(crate) struct World {
    paired: Paired,
    pub(crate) token: Secret,
}

impl Deref for World {
    type Target = Paired;

    fn deref(&self) -> &Paired {
        &self.paired
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut HubConfig)) -> Self {
        let paired = Paired::with(change).await;
        let token = paired.hub().create_api_token("tests").await.unwrap().secret;
        Self { paired, token }
    }

    pub(crate) async fn restarted(self) -> Self {
        self.restarted_with(|_| {}).await
    }

    pub(crate) async fn restarted_with(self, change: impl FnOnce(&mut HubConfig)) -> Self {
        let Self { paired, token } = self;
        let (machine, pairing) = (paired.machine.clone(), paired.pairing.clone());
        let folder = paired.stop().await;
        let running = started(&folder, change).await;
        let paired = Paired {
            folder,
            running,
            machine,
            pairing,
        };
        Self { paired, token }
    }

    pub(crate) async fn stop(self) {
        drop(self.paired.stop().await);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address()
    }

    pub(crate) async fn connect(&self, extended: bool) -> FakeBridge {
        FakeBridge::connect(self.address(), &self.pairing, extended)
            .await
            .unwrap()
    }

    /// A bridge that is on line with the demo agent.
    pub(crate) async fn bridge(&self, extended: bool) -> FakeBridge {
        let mut bridge = self.connect(extended).await;
        bridge.greet().await;
        bridge
    }

    /// A task that was sent to the bridge; gives its first run.
    pub(crate) async fn task(&self, bridge: &mut FakeBridge) -> Run {
        let task = self
            .hub()
            .create(self.new_task("write a haiku"))
            .await
            .unwrap();
        let dispatch = bridge.expect("dispatch_task").await;
        Run::of(task, &dispatch)
    }

    pub(crate) async fn status(&self, task: &TaskId, wanted: TaskStatus) {
        let hub = self.hub();
        let mut watch = hub.watch(task).await.unwrap();
        soon(async {
            while hub.task(task).await.unwrap().unwrap().summary.status != wanted {
                assert!(watch.changed().await);
            }
        })
        .await;
    }

    pub(crate) fn host(&self) -> String {
        self.address().to_string()
    }

    pub(crate) fn authorization(&self) -> (String, String) {
        (
            "Authorization".into(),
            format!("Bearer {}", self.token.expose()),
        )
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask("GET", path, &[self.authorization()], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.ask("POST", path, &[self.authorization()], &body.to_string())
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Response {
        self.ask("DELETE", path, &[self.authorization()], "").await
    }

    /// With the right host unless the headers name one.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> Response {
        soon(Response::read(self.address(), method, path, headers, body)).await
    }
}

pub(crate) fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

impl Run {
    pub(crate) fn completed(&self, n: u64) -> Value {
        self.event(
            n,
            &json!({ "type": "ended", "outcome": { "status": "completed" } }),
        )
    }
}

/// The other end of `/ws/bridge`.
pub(crate) struct FakeBridge {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) accepted_extension: bool,
    pub(crate) accepted_packing: bool,
    unpacked: VecDeque<TextFrame>,
    /// How many messages came packed.
    pub(crate) packed_messages: usize,
}

impl FakeBridge {
    pub(crate) async fn connect(
        address: SocketAddr,
        token: &Secret,
        extended: bool,
    ) -> Result<Self, Box<Error>> {
        let offers: &[&str] = if extended {
            &["x-bridge-extension"]
        } else {
            &[]
        };
        Self::connect_offering(address, token, offers).await
    }

    /// Connects with these headers, each with the value 1.
    pub(crate) async fn connect_offering(
        address: SocketAddr,
        token: &Secret,
        offers: &[&'static str],
    ) -> Result<Self, Box<Error>> {
        let mut request = format!("ws://{address}/ws/bridge")
            .into_client_request()
            .unwrap();
        let headers = request.headers_mut();
        if !token.is_empty() {
            let bearer = format!("Bearer {}", token.expose());
            headers.insert("authorization", bearer.parse().unwrap());
        }
        for offer in offers {
            headers.insert(*offer, "1".parse().unwrap());
        }
        let config = WebSocketConfig::default();
        let (socket, response) =
            soon(connect_async_with_config(request, Some(config), true)).await?;
        let accepted = |name| response.headers().get(name).is_some_and(|it| it == "1");
        Ok(Self {
            socket,
            accepted_extension: accepted("x-bridge-extension"),
            accepted_packing: accepted(deflate::HEADER),
            unpacked: VecDeque::new(),
            packed_messages: 0,
        })
    }

    /// Handshake with the demo provider, until the hub has made its agent.
    pub(crate) async fn greet(&mut self) {
        self.say(&json!({
            "action": "handshake", "version": "v1.0.0", "agents": [], "providers": ["demo"],
            "hostname": "testbox",
        }))
        .await;
        let sync = self.expect("sync_demo_agents").await;
        let id = &sync["requestId"];
        self.say(&json!({
            "action": "sync_demo_agents_ack", "requestId": id, "success": true, "error": null,
        }))
        .await;
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.send(Message::text(message.to_string())).await;
    }

    pub(crate) async fn send(&mut self, frame: Message) {
        soon(self.socket.send(frame)).await.unwrap();
    }

    /// The demo agent can do all that can be done while it works.
    pub(crate) async fn can_do_it_all(&mut self, world: &World) {
        self.can(world, &json!({ "inject": true, "model": "any_time", "mode": "any_time", "effort": "any_time" }))
            .await;
    }

    /// Tells what can be done while the demo agent works, until the hub knows it.
    pub(crate) async fn can(&mut self, world: &World, can: &Value) {
        let health = json!({ "demo": { "available": true, "can": can } });
        self.say(&json!({ "action": "provider_health", "providerHealth": health }))
            .await;
        let hub = world.hub();
        let mut watch = hub.watch_all();
        soon(async {
            while hub.machines().await.unwrap()[0].agents[0].can.is_none() {
                assert!(watch.changed().await);
            }
        })
        .await;
    }

    /// Whether a frame could be written.
    pub(crate) async fn try_send(&mut self, frame: Message) -> bool {
        soon(self.socket.send(frame)).await.is_ok()
    }

    /// The next frame that is none of the envelope; `Err` holds the code of a close.
    pub(crate) async fn next(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let frame = self.next_frame().await?;
            if frame.get("delivery").is_none() {
                return Ok(frame);
            }
        }
    }

    /// The next frame of the envelope.
    pub(crate) async fn envelope(&mut self) -> Value {
        loop {
            let frame = self.any().await;
            if frame.get("delivery").is_some() {
                return frame;
            }
        }
    }

    /// The next frame of any kind.
    pub(crate) async fn any(&mut self) -> Value {
        self.next_frame().await.expect("a frame")
    }

    async fn next_frame(&mut self) -> Result<Value, Option<u16>> {
        loop {
            if let Some(frame) = self.unpacked.pop_front() {
                return Ok(serde_json::from_str(frame.as_str()).unwrap());
            }
            match soon(self.socket.next()).await {
                Some(Ok(Message::Binary(packed))) => {
                    self.packed_messages += 1;
                    self.unpacked
                        .extend(deflate::unpack(&packed, 32 << 20).unwrap());
                }
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next frame, which must be this action.
    pub(crate) async fn expect(&mut self, action: &str) -> Value {
        let frame = self.next().await.expect("a frame");
        assert_eq!(frame["action"], action, "{frame}");
        frame
    }

    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    async fn read(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> Self {
        let mut stream = open(address, method, path, headers, body).await;
        let (status, headers) = head(&mut stream).await;
        let mut body = Vec::new();
        match headers.get("content-length") {
            Some(length) if method != "HEAD" => {
                body.resize(length.parse().unwrap(), 0);
                stream.read_exact(&mut body).await.unwrap();
            }
            Some(_) | None => {
                assert!(
                    !headers.contains_key("transfer-encoding"),
                    "not for this client"
                );
            }
        }
        Self {
            status,
            headers,
            body,
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

async fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &str,
) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut lines = vec![
        format!("{method} {path} HTTP/1.1"),
        "Connection: close".to_owned(),
    ];
    if !headers.iter().any(|(name, _)| name == "Host") {
        lines.push(format!("Host: {address}"));
    }
    lines.extend(
        headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}")),
    );
    if method != "GET" && method != "HEAD" {
        lines.push(format!("Content-Length: {}", body.len()));
    }
    let request = lines.join("\r\n") + "\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    BufReader::new(stream)
}

async fn head(stream: &mut BufReader<TcpStream>) -> (u16, HashMap<String, String>) {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let status = line
        .split(' ')
        .nth(1)
        .expect("a status line")
        .parse()
        .unwrap();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    (status, headers)
}

/// A stream of server-sent events.
pub(crate) struct Sse {
    stream: BufReader<TcpStream>,
}

impl Sse {
    pub(crate) async fn open(world: &World, path: &str, last: Option<u64>) -> Self {
        let mut headers = vec![world.authorization()];
        if let Some(last) = last {
            headers.push(header("Last-Event-ID", &last.to_string()));
        }
        let mut stream = soon(open(world.address(), "GET", path, &headers, "")).await;
        let (status, headers) = soon(head(&mut stream)).await;
        assert_eq!(status, 200);
        assert_eq!(headers["content-type"], "text/event-stream");
        Self { stream }
    }

    /// The next event's id and data; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<(Option<u64>, String)> {
        let (mut id, mut data) = (None, String::new());
        loop {
            let mut line = String::new();
            if soon(self.stream.read_line(&mut line)).await.unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.parse().unwrap());
            } else if let Some(text) = line.strip_prefix("data: ") {
                text.clone_into(&mut data);
            } else if line.is_empty() && !data.is_empty() {
                return Some((id, data));
            }
        }
    }

    pub(crate) async fn ids(&mut self, count: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.next().await.expect("an event").0.expect("an id"));
        }
        ids
    }
}
