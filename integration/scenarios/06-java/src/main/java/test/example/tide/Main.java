package test.example.tide;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;

/** Prints the harbours of the jar's own list, highest tide first. */
public final class Main {
    private Main() {}

    public static void main(String[] args) throws IOException {
        double least = args.length > 0 ? Double.parseDouble(args[0]) : 0;
        for (Harbour h : harbours()) {
            if (h.highWater() >= least) {
                System.out.printf(Locale.ROOT, "%s %.1f%n", h.name(), h.highWater());
            }
        }
        System.out.println("java " + Runtime.version().feature());
    }

    static List<Harbour> harbours() throws IOException {
        try (var in = new BufferedReader(new InputStreamReader(
                Main.class.getResourceAsStream("/harbours.txt"), StandardCharsets.UTF_8))) {
            return in.lines().filter(l -> !l.isBlank()).map(Harbour::parse)
                    .sorted(Comparator.comparingDouble(Harbour::highWater).reversed()).toList();
        }
    }
}
