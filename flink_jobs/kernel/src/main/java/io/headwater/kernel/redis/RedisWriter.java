package io.headwater.kernel.redis;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import io.headwater.kernel.traces.RowSpans;
import io.headwater.kernel.traces.RowTrace;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import javax.annotation.Nullable;
import javax.net.ssl.SSLParameters;
import org.apache.flink.api.common.operators.ProcessingTimeService;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.Histogram;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.runtime.metrics.DescriptiveStatisticsHistogram;
import org.apache.flink.table.data.RowData;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.concurrent.ExecutorThreadFactory;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import redis.clients.jedis.AbstractPipeline;
import redis.clients.jedis.ClientSetInfoConfig;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.JedisClientConfig;
import redis.clients.jedis.Protocol;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.RedisClusterClient;
import redis.clients.jedis.Response;
import redis.clients.jedis.UnifiedJedis;
import redis.clients.jedis.exceptions.JedisAccessControlException;
import redis.clients.jedis.util.JedisURIHelper;

/**
 * Writes the newest row of each entity, a batch at a time, while the next batch fills.
 *
 * <p>A batch may be written again, in part or in whole: the same row lands on itself. That is why a
 * failure of any kind has one answer, which is to connect anew and write what is not known to have
 * landed.
 */
final class RedisWriter implements SinkWriter<RowData> {

  /** Entities in one call of the script, which others wait for: some hundred microseconds. */
  private static final int AT_ONCE = 100;

  /** Rows that the quantiles of their age are of. */
  private static final int SAMPLED = 10_000;

  private static final Logger LOG = LoggerFactory.getLogger(RedisWriter.class);
  private static final long FIRST_BACK_OFF_MS = 100;
  private static final long LONGEST_BACK_OFF_MS = 5_000;

  private final RedisSinkConfig config;
  private final RowEncoder encoder;
  private final ProcessingTimeService clock;

  /** Null where rows are not traced. */
  @Nullable private final RowSpans spans;

  private final Counter writes;
  private final Counter older;
  private final Counter retries;

  /** From a row's event time until it can be read, in milliseconds. */
  private final Histogram freshness;

  /** By {@link RowEncoder#key}. */
  private Map<String, Pending> buffer = new LinkedHashMap<>();

  /** Talks to Redis, one batch after the other; the task's thread only fills the next one. */
  private final ExecutorService redis =
      Executors.newSingleThreadExecutor(new ExecutorThreadFactory("feast-redis"));

  private Future<?> written = CompletableFuture.completedFuture(null);
  private ScheduledFuture<?> linger;
  private UnifiedJedis client;
  private final String text;
  private byte[] script;
  private volatile long newest = Long.MIN_VALUE;

  RedisWriter(RedisSinkConfig config, MetricGroup metrics, ProcessingTimeService clock) {
    this.config = config;
    this.clock = clock;
    encoder = new RowEncoder(config);
    text = Script.of(config.features().size(), config.trace() != null);
    spans = config.trace() == null ? null : RowSpans.exported();
    writes = metrics.counter("redisWrites");
    older = metrics.counter("redisOlder");
    retries = metrics.counter("redisRetries");
    freshness = metrics.histogram("freshnessMs", new DescriptiveStatisticsHistogram(SAMPLED));
    // -1 before the first row has landed.
    metrics.gauge(
        "lagMs",
        (Gauge<Long>) () -> newest == Long.MIN_VALUE ? -1 : System.currentTimeMillis() - newest);
  }

  @Override
  public void write(RowData row, Context context) throws IOException, InterruptedException {
    if (row.getRowKind() == RowKind.UPDATE_BEFORE) {
      return;
    }
    String key = encoder.key(row);
    long eventTime = encoder.eventTime(row);
    Pending buffered = buffer.get(key);
    if (buffered != null && buffered.eventTime > eventTime) {
      older.inc();
      return;
    }
    if (buffer.isEmpty()) {
      // Runs in the task's own thread, as write and flush do.
      linger =
          clock.registerTimer(
              clock.getCurrentProcessingTime() + config.lingerMs(), time -> handOver());
    }
    if (buffered == null) {
      buffered = encoder.pending(key);
      buffer.put(key, buffered);
    }
    buffered.trace = trace(row, eventTime, buffered.trace);
    boolean delete = row.getRowKind() == RowKind.DELETE || encoder.isDelete(row);
    encoder.keep(row, eventTime, delete, buffered);
    if (buffer.size() >= config.batchSize()) {
      handOver();
    }
  }

  /** The trace to keep with a row: its own, or that of the row whose place it takes. */
  @Nullable
  private RowSpans.Write trace(RowData row, long eventTime, @Nullable RowSpans.Write before) {
    if (spans == null) {
      return null;
    }
    RowTrace sampled = encoder.trace(row);
    if (sampled == null) {
      return before;
    }
    if (before != null) {
      before.superseded();
    }
    return spans.begin(config.view(), sampled, eventTime);
  }

  /** Called before each checkpoint barrier: what came before it is in Redis afterwards. */
  @Override
  public void flush(boolean endOfInput) throws IOException, InterruptedException {
    handOver();
    await();
  }

  /** Begins a new batch, once the one before the last is written. */
  private void handOver() throws IOException, InterruptedException {
    if (linger != null) {
      linger.cancel(false);
      linger = null;
    }
    await();
    if (!buffer.isEmpty()) {
      Map<String, Pending> batch = buffer;
      buffer = new LinkedHashMap<>();
      written =
          redis.submit(
              () -> {
                write(batch);
                return null;
              });
    }
  }

  private void await() throws IOException, InterruptedException {
    try {
      written.get();
    } catch (ExecutionException e) {
      if (e.getCause() instanceof IOException failure) {
        throw failure;
      }
      throw new IOException("redis " + config.server() + ": view " + config.view(), e.getCause());
    }
  }

  private void write(Map<String, Pending> batch) throws IOException, InterruptedException {
    long backOff = FIRST_BACK_OFF_MS;
    for (int retry = 0; !batch.isEmpty(); retry++) {
      RuntimeException failure = tryToWrite(batch);
      if (failure == null) {
        continue;
      }
      disconnect();
      if (retry >= config.retries() || isHopeless(failure)) {
        throw new IOException(
            "redis %s: view %s: %d entities not written after %d retries: %s"
                .formatted(
                    config.server(), config.view(), batch.size(), retry, failure.getMessage()),
            failure);
      }
      LOG.warn(
          "redis {}: view {}: {} entities wait, next try in {} ms: {}",
          config.server(),
          config.view(),
          batch.size(),
          backOff,
          failure.toString());
      retries.inc();
      Thread.sleep(backOff);
      backOff = Math.min(2 * backOff, LONGEST_BACK_OFF_MS);
    }
  }

  /** Takes from a batch what Redis has answered for; the failure if something is left. */
  private RuntimeException tryToWrite(Map<String, Pending> batch) {
    try {
      if (client == null) {
        client = connect();
        script = client.scriptLoad(text).getBytes(ISO_8859_1);
      }
      // In a cluster, the keys of one call are of one slot.
      int atOnce = config.cluster() ? 1 : AT_ONCE;
      List<List<Pending>> calls = new ArrayList<>();
      for (Pending pending : batch.values()) {
        if (calls.isEmpty() || calls.get(calls.size() - 1).size() == atOnce) {
          calls.add(new ArrayList<>(atOnce));
        }
        calls.get(calls.size() - 1).add(pending);
      }
      List<Response<Object>> responses = new ArrayList<>(calls.size());
      Response<Object> replicas = null;
      try (AbstractPipeline pipeline = client.pipelined()) {
        for (List<Pending> call : calls) {
          responses.add(pipeline.evalsha(script, call.size(), parameters(call)));
        }
        if (config.replicas() > 0) {
          replicas =
              pipeline.sendCommand(
                  Protocol.Command.WAIT,
                  Integer.toString(config.replicas()),
                  Integer.toString(config.timeoutMs() / 2));
        }
        pipeline.sync();
      }
      if (replicas != null && (Long) replicas.get() < config.replicas()) {
        return new IllegalStateException(
            "%d of %d replicas have them".formatted((Long) replicas.get(), config.replicas()));
      }
      RuntimeException failure = null;
      Iterator<Pending> rows = batch.values().iterator();
      for (int i = 0; i < calls.size(); i++) {
        List<Pending> call = calls.get(i);
        long landed;
        try {
          landed = (Long) responses.get(i).get();
        } catch (RuntimeException e) {
          failure = withoutArguments(e);
          call.forEach(row -> rows.next());
          continue;
        }
        writes.inc(landed);
        older.inc(call.size() - landed);
        long now = System.currentTimeMillis();
        for (Pending row : call) {
          rows.next();
          rows.remove();
          freshness.update(now - row.eventTime);
          if (row.trace != null) {
            row.trace.written(call.size());
          }
          newest = landed > 0 ? Math.max(newest, row.eventTime) : newest;
        }
      }
      return failure;
    } catch (RuntimeException e) {
      return withoutArguments(e);
    }
  }

  private byte[][] parameters(List<Pending> call) {
    byte[][] header = encoder.header();
    int width = header.length;
    byte[][] result = new byte[call.size() * (1 + width) + width][];
    int key = 0;
    int argument = call.size() + width;
    System.arraycopy(header, 0, result, call.size(), width);
    for (Pending pending : call) {
      result[key++] = pending.key;
      System.arraycopy(encoder.arguments(pending), 0, result, argument, width);
      argument += width;
    }
    return result;
  }

  /** A server that does not know a command repeats its arguments, to AUTH the password. */
  private static RuntimeException withoutArguments(RuntimeException failure) {
    for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
      int arguments = String.valueOf(cause.getMessage()).indexOf(", with args");
      if (arguments >= 0) {
        return new IllegalStateException(cause.getMessage().substring(0, arguments));
      }
    }
    return failure;
  }

  /** Whether no retry can help, unlike with a server that restarts, loads or fails over. */
  private static boolean isHopeless(Throwable failure) {
    for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
      if (cause instanceof JedisAccessControlException
          || String.valueOf(cause.getMessage()).contains("WRONGTYPE")) {
        return true;
      }
    }
    return false;
  }

  private UnifiedJedis connect() {
    JedisClientConfig clientConfig = clientConfig();
    HostAndPort server = new HostAndPort(config.url().getHost(), config.port());
    // One connection, of which nothing but this writer knows.
    ConnectionPoolConfig pool = new ConnectionPoolConfig();
    pool.setJmxEnabled(false);
    pool.setTimeBetweenEvictionRuns(Duration.ofMillis(-1));
    return config.cluster()
        ? RedisClusterClient.builder()
            .nodes(Set.of(server))
            .clientConfig(clientConfig)
            .poolConfig(pool)
            .build()
        : RedisClient.builder()
            .hostAndPort(server)
            .clientConfig(clientConfig)
            .poolConfig(pool)
            .build();
  }

  private JedisClientConfig clientConfig() {
    String user = config.username();
    String password = JedisURIHelper.getPassword(config.url());
    if (user == null) {
      user = JedisURIHelper.getUser(config.url());
    }
    if (config.passwordFile() != null) {
      try {
        password = Files.readString(Path.of(config.passwordFile())).strip();
      } catch (IOException e) {
        throw new IllegalStateException(
            "cannot read 'password-file' %s".formatted(config.passwordFile()), e);
      }
    }
    DefaultJedisClientConfig.Builder builder =
        DefaultJedisClientConfig.builder()
            .user(user)
            .password(password)
            .database(JedisURIHelper.getDBIndex(config.url()))
            .connectionTimeoutMillis(config.timeoutMs())
            .socketTimeoutMillis(config.timeoutMs())
            // AUTH and no HELLO, which servers before Redis 6 do not know.
            .serverDefaultProtocol()
            .clientSetInfoConfig(ClientSetInfoConfig.DISABLED);
    if (JedisURIHelper.isRedisSSLScheme(config.url())) {
      SSLParameters checkHostName = new SSLParameters();
      checkHostName.setEndpointIdentificationAlgorithm("HTTPS");
      builder.ssl(true).sslParameters(checkHostName);
    }
    return builder.build();
  }

  private void disconnect() {
    if (client != null) {
      try {
        client.close();
      } catch (RuntimeException e) {
        LOG.debug("closing a broken connection", e);
      }
      client = null;
    }
  }

  @Override
  public void close() {
    // What is not written is not in a checkpoint yet, so it comes again.
    redis.shutdownNow();
    try {
      redis.awaitTermination(config.timeoutMs(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    disconnect();
  }
}
