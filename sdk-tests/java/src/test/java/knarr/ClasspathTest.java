package knarr;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.volcengine.service.vikingDB.VikingDBService;
import org.junit.jupiter.api.Test;

/** Needs no server: with this one alone Maven fetches everything that the others need. */
class ClasspathTest {
    @Test
    void theClientIsThere() {
        assertTrue(VikingDBService.getApiInfo().containsKey("UpsertData"));
    }
}
