//! A queue over AMQP 0.9.1.
//!
//! The queue is taken as it is; where there is none it is declared as kombu declares it (a durable
//! queue, a durable direct exchange and a binding, all of the queue's name), so that whoever comes first
//! makes the same thing. Nothing is published. What is rejected goes where the queue's dead-letter
//! exchange says, which is an argument or a policy of the broker: declaring one here would make kombu's
//! own declaration of the same queue fail (406).
//!
//! A message may be held for hours, and RabbitMQ closes the channel of a consumer that holds one for
//! longer than its `consumer_timeout` (30 minutes by default; RabbitMQ docs, "Consumers"). So a message
//! is given back and taken again in time; its place in the queue is kept by RabbitMQ.
//!
//! The client's own reconnecting is left off: who waits how long is decided in one place.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ErrorKind, ExchangeKind,
    Queue,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
        BasicRejectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    tcp::OwnedTLSConfig,
    types::{AMQPValue, FieldTable, ShortString},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use percent_encoding::percent_decode_str;
use runner_fleet_actors::port::{ErrorClass, PortError, Secret};
use url::Url;

use super::{
    held::Tag,
    line::{Arrival, Broker, Line, address, within},
    message::Raw,
};
use crate::github::TokenSource;

/// How often the queue's length is asked for; it also proves that the connection lives.
const PERIOD: Duration = Duration::from_secs(5);
/// A message is given back after this time: half of RabbitMQ's default.
const HOLD: Duration = Duration::from_secs(900);
/// Heartbeats that both sides agree on, in seconds; two missed ones end the connection.
const HEARTBEAT: u16 = 20;
/// AMQP 0.9.1, "basic.reject" and friends: codes of a refusal.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// A broker that speaks AMQP 0.9.1.
pub struct Amqp {
    address: TokenSource,
    ca_file: Option<PathBuf>,
}

impl Amqp {
    /// Prepares; connects to nothing.
    #[must_use]
    pub fn new(address: TokenSource, ca_file: Option<PathBuf>) -> Self {
        Self { address, ca_file }
    }
}

/// Takes an address apart. Not left to the client, which takes an IPv6 address for `localhost`.
fn uri(secret: &Secret) -> Result<AMQPUri, &'static str> {
    let url = Url::parse(secret.expose()).map_err(|_| "it is no address such as amqp://HOST")?;
    let scheme = match url.scheme() {
        "amqp" => AMQPScheme::AMQP,
        "amqps" => AMQPScheme::AMQPS,
        _ => return Err("it must begin with amqp:// or amqps://"),
    };
    let plain = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(|text| text.into_owned())
            .map_err(|_| "it is not UTF-8")
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it names no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let given = |text: &str| if text.is_empty() { Ok("guest".to_owned()) } else { plain(text) };
    // As kombu reads it: no path and an empty one are the broker's default host.
    let vhost = match url.path().strip_prefix('/') {
        None | Some("") => "/".to_owned(),
        Some(path) => plain(path)?,
    };
    Ok(AMQPUri {
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: given(url.username())?,
                password: given(url.password().unwrap_or_default())?,
            },
            host,
            port: url.port().unwrap_or_else(|| scheme.default_port()),
        },
        scheme,
        vhost,
        query: AMQPQueryString { heartbeat: Some(HEARTBEAT), ..AMQPQueryString::default() },
    })
}

/// The code of a refusal by the broker.
fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => Some(refusal.get_id()),
        _ => None,
    }
}

fn class(error: &lapin::Error) -> (ErrorClass, String) {
    let class = match code(error) {
        Some(ACCESS_REFUSED | NOT_ALLOWED) => ErrorClass::Auth,
        Some(NOT_FOUND) => ErrorClass::NotFound,
        Some(RESOURCE_LOCKED) => ErrorClass::Busy,
        Some(PRECONDITION_FAILED) => ErrorClass::Invalid,
        _ => ErrorClass::Transient,
    };
    let hint = match class {
        ErrorClass::Auth => "; check user, password, virtual host and its permissions",
        ErrorClass::Busy => "; another consumer has it for itself",
        _ => "",
    };
    (class, format!("{error}{hint}"))
}

impl Amqp {
    /// A connection, and where it leads.
    async fn connect(&self) -> Result<(Connection, String), PortError> {
        let invalid = |why: String| PortError::certain(ErrorClass::Invalid, why);
        let secret = address(&self.address)?;
        let uri = uri(&secret)
            .map_err(|why| invalid(format!("the queue's address is not usable: {why}")))?;
        let place = format!("{}:{}", uri.authority.host, uri.authority.port);
        let cert_chain = match &self.ca_file {
            Some(path) => Some(tokio::fs::read_to_string(path).await.map_err(|error| {
                invalid(format!("CA file {} is not usable: {error}", path.display()))
            })?),
            None => None,
        };
        let runtime = lapin::runtime::default_runtime()
            .map_err(|error| invalid(format!("connect to {place}: {error}")))?;
        let properties =
            ConnectionProperties::default().with_connection_name("runner-fleet".into());
        let tls = OwnedTLSConfig { identity: None, cert_chain };
        let connecting = Connection::connect_uri_with_config(uri, properties, tls, runtime);
        let connection = within(&format!("connect to {place}"), connecting, class).await?;
        Ok((connection, place))
    }
}

#[async_trait]
impl Broker for Amqp {
    async fn open(&self, queue: &str, most: u16) -> Result<Box<dyn Line>, PortError> {
        let (connection, place) = self.connect().await?;
        let what = format!("take messages from queue {queue:?} on {place}");
        let channel = channel(&connection, &what, queue).await?;
        let qos = channel.basic_qos(most, BasicQosOptions::default());
        within(&what, qos, class).await?;
        let consuming = channel.basic_consume(
            queue.into(),
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = within(&what, consuming, class).await?;
        let (queue, open) = (queue.to_owned(), BTreeMap::new());
        Ok(Box::new(AmqpLine { connection, channel, consumer, queue, what, open }))
    }

    async fn waiting(&self, queue: &str) -> Result<Option<u64>, PortError> {
        let (connection, place) = self.connect().await?;
        let what = format!("look at queue {queue:?} on {place}");
        let channel = within(&what, connection.create_channel(), class).await?;
        let found = match declared(&channel, &what, queue).await {
            Ok(found) => Some(u64::from(found.message_count())),
            Err(error) if error.class == ErrorClass::NotFound => None,
            Err(error) => return Err(error),
        };
        within(&what, connection.close(200, "bye".into()), class).await?;
        Ok(found)
    }
}

/// The queue as it is, without making it. A refusal closes the channel.
async fn declared(channel: &Channel, what: &str, queue: &str) -> Result<Queue, PortError> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let looked = channel.queue_declare(queue.into(), passive, FieldTable::default());
    within(what, looked, class).await
}

/// A channel on which the queue is there.
async fn channel(connection: &Connection, what: &str, queue: &str) -> Result<Channel, PortError> {
    let channel = within(what, connection.create_channel(), class).await?;
    match declared(&channel, what, queue).await {
        Ok(_) => return Ok(channel),
        Err(error) if error.class == ErrorClass::NotFound => {}
        Err(error) => return Err(error),
    }
    tracing::info!(queue, "there is no such queue, declaring it as kombu does");
    let channel = within(what, connection.create_channel(), class).await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    let exchange = channel.exchange_declare(queue.into(), ExchangeKind::Direct, durable, none());
    within(what, exchange, class).await?;
    let declared = channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), none());
    within(what, declared, class).await?;
    let bind = QueueBindOptions::default();
    let bound = channel.queue_bind(queue.into(), queue.into(), queue.into(), bind, none());
    within(what, bound, class).await?;
    Ok(channel)
}

struct AmqpLine {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    queue: String,
    what: String,
    open: BTreeMap<Tag, (Delivery, Instant)>,
}

impl fmt::Debug for AmqpLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpLine").field("queue", &self.queue).finish_non_exhaustive()
    }
}

fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[async_trait]
impl Line for AmqpLine {
    fn period(&self) -> Duration {
        PERIOD
    }

    async fn next(&mut self) -> Result<Arrival, PortError> {
        let mut delivery = match self.consumer.next().await {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => {
                let (class, why) = class(&error);
                return Err(PortError::certain(class, format!("{}: {why}", self.what)));
            }
            None => {
                let why = format!("{}: the broker has ended it (queue deleted?)", self.what);
                return Err(PortError::certain(ErrorClass::Transient, why));
            }
        };
        let tag = Tag(delivery.delivery_tag);
        let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
        let properties = &delivery.properties;
        let raw = Raw {
            content_type: text(properties.content_type()),
            content_encoding: text(properties.content_encoding()),
            compression: header(properties, "compression"),
            event: header(properties, "X-GitHub-Event"),
            body: std::mem::take(&mut delivery.data),
        };
        let again = delivery.redelivered;
        self.open.insert(tag, (delivery, Instant::now()));
        Ok(Arrival::Message { tag, raw: Ok(raw), again, sent_at: None })
    }

    async fn beat(&mut self) -> Result<Vec<Arrival>, PortError> {
        let mut arrivals = Vec::new();
        let long: Vec<_> = self
            .open
            .iter()
            .filter(|(_, (_, since))| since.elapsed() > HOLD)
            .map(|(tag, _)| *tag)
            .collect();
        for tag in long {
            let Some((delivery, _)) = self.open.remove(&tag) else { continue };
            let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            within(&self.what, delivery.acker.nack(back), class).await?;
            arrivals.push(Arrival::Withdrawn(tag));
        }
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked =
            self.channel.queue_declare(self.queue.as_str().into(), passive, FieldTable::default());
        let queue = within(&self.what, asked, class).await?;
        arrivals.push(Arrival::Ready(queue.message_count()));
        Ok(arrivals)
    }

    async fn done(&mut self, tags: &[Tag]) -> Result<(), PortError> {
        for tag in tags {
            let Some((delivery, _)) = self.open.remove(tag) else { continue };
            within(&self.what, delivery.acker.ack(BasicAckOptions::default()), class).await?;
        }
        Ok(())
    }

    async fn reject(&mut self, tag: Tag, _: &str) -> Result<(), PortError> {
        let Some((delivery, _)) = self.open.remove(&tag) else { return Ok(()) };
        let away = BasicRejectOptions { requeue: false };
        within(&self.what, delivery.acker.reject(away), class).await.map(|_| ())
    }

    async fn close(&mut self) {
        let leave = self.connection.close(200, "the fleet stops".into());
        if let Err(error) = within(&self.what, leave, class).await {
            tracing::debug!(queue = self.queue, %error, "the broker did not take the leave");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_are_read_as_kombu_reads_them() {
        for (text, host, port, vhost, user) in [
            ("amqp://10.0.0.1", "10.0.0.1", 5672, "/", "guest"),
            ("amqp://mq.example.net/", "mq.example.net", 5672, "/", "guest"),
            ("amqp://u:p%40ss@mq:5673//", "mq", 5673, "/", "u"),
            ("amqps://u:p@mq/jobs", "mq", 5671, "jobs", "u"),
            ("amqp://u:p@[::1]:7/%2fa", "::1", 7, "/a", "u"),
        ] {
            let uri = uri(&Secret::new(text)).unwrap();
            let authority = &uri.authority;
            assert_eq!((authority.host.as_str(), authority.port), (host, port), "{text}");
            assert_eq!((uri.vhost.as_str(), authority.userinfo.username.as_str()), (vhost, user));
        }
        assert_eq!(
            uri(&Secret::new("amqp://u:p%40ss@mq")).unwrap().authority.userinfo.password,
            "p@ss"
        );
        for text in ["", "mq:5672", "http://mq", "amqp://"] {
            assert!(uri(&Secret::new(text)).is_err(), "{text}");
        }
    }
}
