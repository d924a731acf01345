package demo;

import static org.junit.Assert.assertEquals;

import org.junit.Test;

public class GreeterTest {
    @Test
    public void greetsByName() {
        assertEquals("Hello, Ada\n", Greeter.greeting(" Ada "));
    }

    @Test
    public void greetsTheWorldWithoutAName() {
        assertEquals("Hello, world\n", Greeter.greeting(null));
    }
}
