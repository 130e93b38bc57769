// A server's sessions under a garbage collector, as sessions.go has them: a map of 20,000, each a few
// small objects that point to each other; so many a second are replaced by new ones.
//
//     java Sessions.java SECONDS PER_SECOND
//
// Prints how many a second it replaced.

import java.util.HashMap;
import java.util.Map;
import java.util.Random;

final class Sessions {
    private static final int COUNT = 20_000;

    private record Item(String name, int price, Item next) {}

    private record Session(String user, Item items, byte[] page) {}

    private static Session fresh(Random random) {
        byte[] page = new byte[800];
        random.nextBytes(page);
        Item items = null;
        for (int i = 0; i < 8; i++) {
            items = new Item("item-" + random.nextInt(), random.nextInt(), items);
        }
        return new Session("user-" + random.nextLong(), items, page);
    }

    public static void main(String[] given) throws InterruptedException {
        double seconds = Double.parseDouble(given[0]);
        double rate = Double.parseDouble(given[1]);
        Random random = new Random(1);
        Map<Integer, Session> table = new HashMap<>(2 * COUNT);
        for (int i = 0; i < COUNT; i++) {
            table.put(i, fresh(random));
        }
        long start = System.nanoTime();
        long replaced = 0;
        double now = 0;
        while (now < seconds) {
            for (; replaced < now * rate; replaced++) {
                table.put(random.nextInt(COUNT), fresh(random));
            }
            Thread.sleep(1);
            now = (System.nanoTime() - start) / 1e9;
        }
        System.out.printf("%.0f%n", replaced / now);
    }
}
