# java 17: compiler and archives, three collectors, threads, http server and client, selectors, mapped and locked files, children, limits of stack and heap, watching, jcmd, a hook at SIGTERM.
set -e
cd /tmp
cat > Main.java <<'J'
import java.io.*; import java.net.*; import java.net.http.*; import java.nio.*; import java.nio.channels.*; import java.nio.file.*; import java.util.*; import java.util.concurrent.*; import java.util.concurrent.atomic.*; import java.util.stream.*;
public class Main {
  public static void main(String[] a) throws Exception {
    System.out.println("streams " + IntStream.range(0, 1000000).parallel().filter(i -> i % 3 == 0).count());
    var pool = Executors.newFixedThreadPool(8); var n = new AtomicLong(); var fs = new ArrayList<Future<Long>>();
    for (int i = 0; i < 100; i++) { final int k = i; fs.add(pool.submit(() -> { for (int j = 0; j < 1000; j++) n.incrementAndGet(); return (long) k; })); }
    long s = 0; for (var f : fs) s += f.get(); pool.shutdown(); System.out.println("pool " + s + " " + n + " " + pool.awaitTermination(5, TimeUnit.SECONDS));
    var server = com.sun.net.httpserver.HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
    server.createContext("/", e -> { var b = e.getRequestBody().readAllBytes(); e.sendResponseHeaders(200, b.length + 1); e.getResponseBody().write(b); e.getResponseBody().write('!'); e.close(); }); server.setExecutor(Executors.newCachedThreadPool()); server.start();
    var client = HttpClient.newHttpClient(); var uri = URI.create("http://127.0.0.1:" + server.getAddress().getPort());
    var answers = IntStream.range(0, 50).mapToObj(i -> client.sendAsync(HttpRequest.newBuilder(uri).POST(HttpRequest.BodyPublishers.ofString("x" + i)).build(), HttpResponse.BodyHandlers.ofString()).thenApply(HttpResponse::body)).map(CompletableFuture::join).collect(Collectors.toSet()); System.out.println("http " + answers.size()); server.stop(0);
    var p = Path.of("f"); Files.write(p, new byte[100000]); try (var c = FileChannel.open(p, StandardOpenOption.READ, StandardOpenOption.WRITE)) { var m = c.map(FileChannel.MapMode.READ_WRITE, 0, 100000); m.putLong(50000, 42); m.force(); var l = c.lock(); System.out.println("map " + m.getLong(50000) + " " + l.isValid()); l.release(); } System.out.println(ByteBuffer.wrap(Files.readAllBytes(p)).getLong(50000));
    var proc = new ProcessBuilder("sh", "-c", "cat; echo err >&2; exit 3").redirectErrorStream(true).start(); try (var o = proc.getOutputStream()) { o.write("in\n".getBytes()); } System.out.println("proc " + new String(proc.getInputStream().readAllBytes()).replace("\n", "|") + " " + proc.waitFor()); 
    var sleep = new ProcessBuilder("sleep", "100").start(); sleep.destroy(); System.out.println("killed " + sleep.waitFor());
    var sel = Selector.open(); var ss = ServerSocketChannel.open().bind(new InetSocketAddress("127.0.0.1", 0)); ss.configureBlocking(false); ss.register(sel, SelectionKey.OP_ACCEPT); var t = new Thread(() -> { try (var k = new Socket("127.0.0.1", ((InetSocketAddress) ss.getLocalAddress()).getPort())) { k.getOutputStream().write("hello".getBytes()); } catch (IOException e) { e.printStackTrace(); } }); t.start();
    var got = new StringBuilder(); while (got.length() < 5) { sel.select(); for (var k : sel.selectedKeys()) if (k.isAcceptable()) { var c = ss.accept(); c.configureBlocking(false); c.register(sel, SelectionKey.OP_READ); } else { var b = ByteBuffer.allocate(10); if (((SocketChannel) k.channel()).read(b) > 0) got.append(new String(b.array(), 0, b.position())); else k.cancel(); } sel.selectedKeys().clear(); } System.out.println("nio " + got);
    try { int[] x = null; System.out.println(x[0]); } catch (NullPointerException e) { System.out.println("npe"); } try { deep(0); } catch (StackOverflowError e) { System.out.println("overflow"); } try { var big = new ArrayList<byte[]>(); while (true) big.add(new byte[10_000_000]); } catch (OutOfMemoryError e) { System.out.println("oom"); }
    var watch = FileSystems.getDefault().newWatchService(); Files.createDirectory(Path.of("w")); Path.of("w").register(watch, StandardWatchEventKinds.ENTRY_CREATE); Files.createFile(Path.of("w/new")); var key = watch.poll(20, TimeUnit.SECONDS); System.out.println("watch " + key.pollEvents().get(0).context());
    var h = new ConcurrentHashMap<String, LongAdder>(); var ts = new ArrayList<Thread>(); for (int i = 0; i < 20; i++) { var th = new Thread(() -> { for (int j = 0; j < 5000; j++) h.computeIfAbsent("k" + j % 10, k -> new LongAdder()).increment(); }); ts.add(th); th.start(); } for (var th : ts) th.join(); System.out.println("map " + h.values().stream().mapToLong(LongAdder::sum).sum());
    Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook"))); System.out.println(Runtime.getRuntime().availableProcessors() > 0); System.gc(); System.exit(7);
  }
  static int deep(int n) { return deep(n + 1) + 1; }
}
J
javac Main.java
for gc in Serial G1 Z; do rm -rf w f; echo == $gc; java -Xmx128m -XX:+Use${gc}GC Main || echo code $?; done
printf 'public class A { public static void main(String[] a) { System.out.println("source " + a.length); } }' > A.java; java A.java x y
mkdir -p j/m; printf 'package m; public class B { public static void main(String[] a) { System.out.println("jar"); } }' > j/m/B.java; javac -d o j/m/B.java; jar --create --file b.jar --main-class m.B -C o .; java -jar b.jar
cat > S.java <<'J'
public class S { public static void main(String[] a) throws Exception { Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook"))); System.out.println("up"); Thread.sleep(100000); } }
J
javac S.java; java S > out & p=$!; until grep -q up out 2>/dev/null; do sleep 0.05; done; jcmd $p Thread.print | grep -c '"main"'; jstack $p | grep -c TIMED_WAITING > /dev/null; kill $p; wait $p || echo $?; cat out
printf 'System.out.println(6*7)\n/exit\n' | jshell -s - 2> /dev/null
